//! NKeys: an Ed25519 key whose holder signs what the server says, with or without a JWT that tells who it is.
//! <https://docs.nats.io/using-nats/developer/connecting/creds>

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

/// Kinds of keys, in the upper five bits of the first byte.
const SEED: u8 = 18 << 3;
const USER: u8 = 20 << 3;

/// Who somebody is at a server, and the key that proves it.
pub(super) struct Key {
    jwt: Option<String>,
    pair: Ed25519KeyPair,
}

impl Key {
    /// From a seed (`SU…`), or the file of one, or of credentials, which have a JWT as well. None where it is neither.
    pub fn read(text: &str) -> Option<Self> {
        let lines = || text.lines().map(str::trim);
        let seed = lines().find(|line| line.starts_with("SU"))?;
        let bytes = BASE32_NOPAD.decode(seed.as_bytes()).ok()?;
        let (rest, check) = bytes.split_last_chunk()?;
        let secret = rest.strip_prefix(&[SEED | USER >> 5, (USER & 0x1f) << 3])?;
        if crc16(rest) != u16::from_le_bytes(*check) {
            return None;
        }
        let jwt = lines()
            .skip_while(|line| !line.contains("BEGIN NATS USER JWT"))
            .nth(1);
        Some(Key {
            jwt: jwt.map(Into::into),
            pair: Ed25519KeyPair::from_seed_unchecked(secret).ok()?,
        })
    }

    /// The public half, `U…`.
    pub fn name(&self) -> String {
        let mut bytes = vec![USER];
        bytes.extend_from_slice(self.pair.public_key().as_ref());
        let check = crc16(&bytes).to_le_bytes();
        bytes.extend_from_slice(&check);
        BASE32_NOPAD.encode(&bytes)
    }

    /// Adds to a CONNECT what answers the server's `nonce`.
    pub fn show(&self, nonce: &str, connect: &mut Value) {
        match &self.jwt {
            Some(jwt) => connect["jwt"] = json!(jwt),
            None => connect["nkey"] = json!(self.name()),
        }
        let signature = self.pair.sign(nonce.as_bytes());
        connect["sig"] = json!(BASE64URL_NOPAD.encode(signature.as_ref()));
    }
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => crc << 1 ^ 0x1021,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // those of the server's documentation
    const SECRET: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

    #[test]
    fn a_seed_gives_the_key_that_the_server_knows() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for text in [SECRET.to_owned(), format!("  {SECRET}\r\n")] {
            assert_eq!(Key::read(&text).unwrap().name(), PUBLIC);
        }
    }

    #[test]
    fn credentials_have_a_jwt_and_a_seed() {
        let text = format!(
            "-----BEGIN NATS USER JWT-----\neyJ0.eyJq.c2ln\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\
             -----BEGIN USER NKEY SEED-----\n{SECRET}\n------END USER NKEY SEED------\n"
        );
        let mut connect = json!({});
        Key::read(&text).unwrap().show("nonce", &mut connect);
        assert_eq!(
            (&connect["jwt"], &connect["nkey"]),
            (&json!("eyJ0.eyJq.c2ln"), &Value::Null)
        );
        assert_eq!(connect["sig"].as_str().map(str::len), Some(86));
    }

    #[test]
    fn what_is_no_seed_of_a_user_is_refused() {
        let mut wrong = SECRET.to_owned();
        wrong.replace_range(10..11, "B");
        for text in ["", "SU", PUBLIC, &wrong, &SECRET[..40], "SUAÄ", "SUA A"] {
            assert!(Key::read(text).is_none(), "{text}");
        }
    }
}
