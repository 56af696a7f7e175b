//! `encode IN.wasm OUT.wasm`: makes a component of a core module that wit-bindgen described.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let [from, to] = &args[..] else {
        return Err("usage: encode IN.wasm OUT.wasm".into());
    };
    let module = std::fs::read(from)?;
    let component = wit_component::ComponentEncoder::default()
        .module(&module)?
        .validate(true)
        .encode()?;
    Ok(std::fs::write(to, component)?)
}
