//! Certificates of a test's own authority.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use loop_wire::transport::{Pem, Tls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        // authorities are told apart by name
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test authority {}", NUMBER.fetch_add(1, Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate of `name`, good in these years, and what believes in this authority.
    pub fn issue_in(&self, name: &str, years: std::ops::Range<i32>) -> Tls {
        let mut params = CertificateParams::new(vec![name.into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Tls {
            certificate: Some(Pem::Text(certificate.pem().into())),
            key: Some(Pem::Text(key.serialize_pem().into())),
            ..self.believed()
        }
    }

    pub fn issue(&self, name: &str) -> Tls {
        self.issue_in(name, 2020..4000)
    }

    /// Belief in this authority, without a certificate.
    pub fn believed(&self) -> Tls {
        Tls {
            authorities: vec![Pem::Text(self.pem.clone().into())],
            ..Tls::default()
        }
    }
}
