//! A provider of `acme:text/filter` with the SDK.

use loop_provider::{Call, Failure, Provider};

loop_provider::wit!();

struct Filter;

impl filter::Provider for Filter {
    async fn echo(&self, _: Call, text: String) -> Result<String, Failure> {
        Ok(format!("{} by Rust on {}", text.to_uppercase(), std::env::consts::ARCH))
    }
}

fn main() -> std::process::ExitCode {
    Provider::new().with(filter::provide(|_| Ok(Filter))).run()
}
