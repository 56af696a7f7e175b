//! Names of WIT as Rust has them.

const KEYWORDS: &str = " abstract as async await become box break const continue do dyn else enum extern false final fn for \
    gen if impl in let loop macro match mod move mut override priv pub ref return static struct trait true try type \
    typeof unsafe unsized use virtual where while yield ";
/// These cannot be raw identifiers.
const PATHS: &str = " self super crate ";

/// `dark-green` as `dark_green`; keywords as raw identifiers.
pub fn snake(name: &str) -> String {
    let name = name.to_lowercase().replace('-', "_");
    let among = |words: &str| words.contains(&format!(" {name} "));
    if among(KEYWORDS) {
        format!("r#{name}")
    } else if among(PATHS) {
        format!("{name}_")
    } else {
        name
    }
}

/// `dark-green` as `DarkGreen`.
pub fn pascal(name: &str) -> String {
    let part = |part: &str| {
        let part = part.to_lowercase();
        let mut letters = part.chars();
        letters.next().map_or(String::new(), |first| {
            first.to_uppercase().chain(letters).collect()
        })
    };
    let name: String = name.split('-').map(part).collect();
    // the only keyword of that form
    if name == "Self" { "Self_".into() } else { name }
}
