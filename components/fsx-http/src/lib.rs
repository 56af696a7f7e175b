//! Serves the files of a folder over HTTP.

wit_bindgen::generate!({
    path: [
        "../../python/loop_kit/capabilities/fsx/wit",
        "../../wit/deps/wasi-0.3/clocks.wit",
        "../../wit/deps/wasi-0.3/random.wit",
        "../../wit/deps/wasi-0.3/filesystem.wit",
        "../../wit/deps/wasi-0.3/sockets.wit",
        "../../wit/deps/wasi-0.3/cli.wit",
        "../../wit/deps/wasi-0.3/http.wit",
        "wit",
    ],
    world: "loop:fsx-http/fsx-http",
    generate_all,
});

mod path;

use sha2::{Digest, Sha256};
use wit_bindgen::{StreamReader, spawn_local};

use exports::wasi::http::handler::Guest;
use loop_::fsx::files::{self, Dir, ErrorCode as FileError, Kind};
use loop_::fsx::streaming::read_stream;
use wasi::http::types::{ErrorCode, Fields, Method, Request, Response};

struct Server;

/// A file as it is answered.
struct File {
    media_type: &'static str,
    /// Without quotes; None, where nothing tells one state of it from another.
    tag: Option<String>,
    size: Option<u64>,
    body: Body,
}

/// What is in an answer.
enum Body {
    Bytes(Vec<u8>),
    /// The file of this path is too large to be read at once.
    Stream(String),
}

impl Guest for Server {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let with_body = match request.get_method() {
            Method::Get => true,
            Method::Head => false,
            _ => {
                return words(
                    405,
                    &[("allow", "GET, HEAD")],
                    "only GET and HEAD are answered",
                    true,
                );
            }
        };
        let Some((_, root)) = files::roots().into_iter().next() else {
            return words(500, &[], "no folder is granted", with_body);
        };
        let target = request.get_path_with_query().unwrap_or_default();
        let found = match path::asked(&target) {
            Some(asked) if asked.is_directory => {
                let slash = if asked.path.is_empty() { "" } else { "/" };
                file(&root, &format!("{}{slash}index.html", asked.path))
            }
            Some(asked) => file(&root, &asked.path),
            None => Err(FileError::NoEntry),
        };
        match found {
            Ok(found) if is_known(&request, &found) => respond(304, tag(&found).as_slice(), None, with_body),
            Ok(found) => answer(&root, 200, found, with_body).await,
            // an index that is a directory leads nowhere
            Err(FileError::IsDirectory) if !target.ends_with('/') => {
                let there = path::with_slash(&target);
                words(308, &[("location", &there)], "it is a directory", with_body)
            }
            Err(FileError::Io | FileError::Quota | FileError::Other(_)) => {
                words(500, &[], "it cannot be read", with_body)
            }
            Err(_) => match file(&root, "404.html") {
                Ok(page) => answer(&root, 404, page, with_body).await,
                Err(_) => words(404, &[], "there is no such file", with_body),
            },
        }
    }
}

/// The file of a path, links within the root followed.
fn file(root: &Dir, path: &str) -> Result<File, FileError> {
    let media_type = path::media_type(path);
    match root.read(path) {
        Ok(bytes) => Ok(File {
            media_type,
            tag: Some(hex(&Sha256::digest(&bytes)[..16])),
            size: Some(bytes.len() as u64),
            body: Body::Bytes(bytes),
        }),
        Err(FileError::FileTooLarge) => {
            let entry = root.stat(path)?;
            // of a link it is the link that is told of
            let is_file = entry.kind == Kind::RegularFile;
            let time = entry.modified.filter(|_| is_file);
            Ok(File {
                media_type,
                tag: time.map(|it| format!("{:x}-{:x}.{:x}", entry.size, it.seconds, it.nanoseconds)),
                size: is_file.then_some(entry.size),
                body: Body::Stream(path.into()),
            })
        }
        Err(error) => Err(error),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether who asks has it already.
fn is_known(request: &Request, file: &File) -> bool {
    let Some(tag) = &file.tag else { return false };
    request.get_headers().get("if-none-match").iter().any(|line| {
        String::from_utf8_lossy(line).split(',').any(|one| {
            let one = one.trim();
            one == "*" || one.strip_prefix("W/").unwrap_or(one).trim_matches('"') == tag
        })
    })
}

fn tag(file: &File) -> Vec<(&'static str, String)> {
    let weak = matches!(file.body, Body::Stream(_));
    let shown = file.tag.as_ref();
    let shown = shown.map(|tag| ("etag", format!("{}\"{tag}\"", if weak { "W/" } else { "" })));
    shown.into_iter().collect()
}

async fn answer(root: &Dir, status: u16, file: File, with_body: bool) -> Result<Response, ErrorCode> {
    let mut headers = tag(&file);
    headers.push(("content-type", file.media_type.into()));
    if let Some(size) = file.size {
        headers.push(("content-length", size.to_string()));
    }
    match file.body {
        Body::Bytes(bytes) => respond(status, &headers, Some(bytes), with_body),
        Body::Stream(_) if !with_body => respond(status, &headers, None, false),
        Body::Stream(path) => match read_stream(root, path, 0).await {
            Ok((stream, ended)) => {
                let (done, trailers) = wit_future::new(|| Ok(None));
                let response = made(status, &headers, Some(stream), trailers)?;
                spawn_local(async move {
                    let how = ended.await.map_err(|_| ErrorCode::InternalError(None));
                    let _ = done.write(how.map(|()| None)).await; // or the client has gone
                });
                Ok(response)
            }
            Err(_) => words(503, &[("retry-after", "1")], "too much is read at once", true),
        },
    }
}

fn words(
    status: u16,
    more: &[(&'static str, &str)],
    text: &str,
    with_body: bool,
) -> Result<Response, ErrorCode> {
    let text = format!("{text}\n");
    let mut headers: Vec<_> = more
        .iter()
        .map(|(name, value)| (*name, (*value).into()))
        .collect();
    headers.push(("content-type", "text/plain; charset=utf-8".into()));
    headers.push(("content-length", text.len().to_string()));
    respond(status, &headers, Some(text.into_bytes()), with_body)
}

fn respond(
    status: u16,
    headers: &[(&'static str, String)],
    body: Option<Vec<u8>>,
    with_body: bool,
) -> Result<Response, ErrorCode> {
    let (done, trailers) = wit_future::new(|| Ok(None));
    let mut stream = None;
    let body = body.filter(|bytes| with_body && !bytes.is_empty());
    let pending = body.map(|bytes| {
        let (writer, reader) = wit_stream::new();
        stream = Some(reader);
        (writer, bytes)
    });
    let response = made(status, headers, stream, trailers)?;
    spawn_local(async move {
        if let Some((mut writer, bytes)) = pending {
            writer.write_all(bytes).await; // what is left over: the client has gone
        }
        let _ = done.write(Ok(None)).await;
    });
    Ok(response)
}

fn made(
    status: u16,
    headers: &[(&'static str, String)],
    body: Option<StreamReader<u8>>,
    trailers: wit_bindgen::FutureReader<Result<Option<Fields>, ErrorCode>>,
) -> Result<Response, ErrorCode> {
    let always = [
        ("cache-control", "no-cache"),
        ("x-content-type-options", "nosniff"),
    ];
    let always = always.iter().map(|(name, value)| (*name, (*value).to_string()));
    let headers: Vec<_> = headers
        .iter()
        .cloned()
        .chain(always)
        .map(|(name, value)| (name.to_string(), value.into_bytes()))
        .collect();
    let fields = Fields::from_list(&headers).map_err(|_| ErrorCode::InternalError(None))?;
    let (response, _) = Response::new(fields, body, trailers);
    let _ = response.set_status_code(status);
    Ok(response)
}

export!(Server);
