//! Content codings undone, a piece at a time: however small a message is and however large it unfolds, what is held
//! is one piece.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use http::HeaderValue;

/// Bytes that one pull gives at most.
const PIECE: usize = 64 << 10;

pub(super) struct Inflate {
    input: Arc<Mutex<Input>>,
    decoder: Box<dyn Read + Send>,
}

/// What a request asks for.
pub(super) const ACCEPT: HeaderValue = HeaderValue::from_static("gzip, br");

#[derive(Default)]
struct Input {
    pieces: VecDeque<Bytes>,
    ended: bool,
}

/// The decoder's end of the input. It says `WouldBlock` where more is to come.
struct Tap(Arc<Mutex<Input>>, Bytes);

impl BufRead for Tap {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.1.is_empty() {
            let mut input = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match input.pieces.pop_front() {
                Some(piece) => self.1 = piece,
                None if input.ended => return Ok(&[]),
                None => return Err(io::ErrorKind::WouldBlock.into()),
            }
        }
        Ok(&self.1)
    }

    fn consume(&mut self, n: usize) {
        self.1.advance(n);
    }
}

impl Read for Tap {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let n = from.len().min(to.len());
        to[..n].copy_from_slice(&from[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl Inflate {
    /// What undoes the coding of that name, if it is one that is known.
    pub fn new(coding: &str) -> Option<Self> {
        let input = Arc::new(Mutex::new(Input::default()));
        let tap = Tap(input.clone(), Bytes::new());
        let decoder: Box<dyn Read + Send> = match coding {
            "gzip" | "x-gzip" => Box::new(flate2::bufread::MultiGzDecoder::new(tap)),
            "br" => Box::new(brotli_decompressor::Decompressor::new(tap, 16 << 10)),
            _ => return None,
        };
        Some(Inflate { input, decoder })
    }

    pub fn push(&self, piece: Bytes) {
        self.with(|input| input.pieces.push_back(piece));
    }

    /// No more comes.
    pub fn end(&self) {
        self.with(|input| input.ended = true);
    }

    fn with(&self, f: impl FnOnce(&mut Input)) {
        f(&mut self.input.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What can be had of the pieces so far: `None` asks for more of them, and none at all is the end.
    pub fn pull(&mut self) -> io::Result<Option<Bytes>> {
        let mut piece = vec![0; PIECE];
        match self.decoder.read(&mut piece) {
            Ok(n) => {
                piece.truncate(n);
                Ok(Some(piece.into()))
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// `Hello, world! ` 200 times, by the `brotli` program.
    const BROTLI: &[u8] = include_bytes!("../tests/hello.br");

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut z = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
        z.write_all(data).unwrap();
        z.finish().unwrap()
    }

    fn whole(coding: &str, data: &[u8], step: usize) -> io::Result<Vec<u8>> {
        let mut inflate = Inflate::new(coding).unwrap();
        let mut out = vec![];
        for piece in data.chunks(step) {
            inflate.push(Bytes::copy_from_slice(piece));
            while let Some(piece) = inflate.pull()? {
                if piece.is_empty() {
                    return Ok(out);
                }
                out.extend_from_slice(&piece);
            }
        }
        inflate.end();
        while let Some(piece) = inflate.pull()? {
            if piece.is_empty() {
                break;
            }
            out.extend_from_slice(&piece);
        }
        Ok(out)
    }

    #[test]
    fn any_cut_of_the_input_gives_the_same() {
        let data = b"Hello, world! ".repeat(200);
        for step in [1, 2, 3, 7, 1000] {
            assert!(
                whole("gzip", &gzip(&data), step).unwrap() == data,
                "gzip by {step}"
            );
            assert!(whole("br", BROTLI, step).unwrap() == data, "br by {step}");
        }
        let two = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(whole("gzip", &two, 5).unwrap(), b"one two");
        assert!(Inflate::new("compress").is_none());
    }

    #[test]
    fn what_ends_early_or_is_no_coding_is_an_error() {
        let data = gzip(b"hello");
        assert!(whole("gzip", &data[..data.len() - 1], 4).is_err());
        assert!(whole("br", &BROTLI[..BROTLI.len() - 2], 4).is_err());
        assert!(whole("gzip", b"no gzip at all", 4).is_err());
    }

    #[test]
    fn a_bomb_unfolds_a_piece_at_a_time() {
        let mut inflate = Inflate::new("gzip").unwrap();
        inflate.push(gzip(&vec![0; 16 << 20]).into());
        for _ in 0..16 {
            assert!(inflate.pull().unwrap().unwrap().len() <= PIECE);
        }
    }
}
