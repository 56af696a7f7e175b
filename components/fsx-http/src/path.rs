//! What a request asks for: which file, if its name is one that is answered.

/// A path of the root.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// The file, or the directory, without `/` at either end; empty is the root.
    pub path: String,
    /// Whether a directory is meant.
    pub is_directory: bool,
}

/// What is asked for by a path with a query; None, where it can name nothing.
///
/// That a path stays within the root is the matter of `loop:fsx`; here it is only that one file has one name.
pub fn asked(target: &str) -> Option<Asked> {
    let path = target.split(['?', '#']).next()?;
    let (raw, is_directory) = match path.strip_prefix('/')? {
        "" => {
            return Some(Asked {
                path: String::new(),
                is_directory: true,
            });
        }
        raw => raw
            .strip_suffix('/')
            .map_or((raw, false), |shorter| (shorter, true)),
    };
    let mut names = Vec::new();
    for (at, part) in raw.split('/').enumerate() {
        let name = decoded(part)?;
        let is_hidden = name.starts_with('.') && !(at == 0 && name == ".well-known");
        if name.is_empty() || is_hidden || name.contains(['/', '\\', '\0']) {
            return None;
        }
        names.push(name);
    }
    Some(Asked {
        path: names.join("/"),
        is_directory,
    })
}

/// Where a directory is that was asked for without its `/`.
pub fn with_slash(target: &str) -> String {
    let (path, rest) = target.split_at(target.find(['?', '#']).unwrap_or(target.len()));
    format!("{path}/{rest}")
}

fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => digit(rest.next()?)? << 4 | digit(rest.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16)?.try_into().ok()
}

/// The media type of a file, by the end of its name.
pub fn media_type(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    let end = name.rsplit_once('.').map_or("", |(_, end)| end);
    match end.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "txt" | "wit" => "text/plain; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "xml" => "application/xml",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        _ => "application/octet-stream",
    }
}
