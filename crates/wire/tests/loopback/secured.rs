//! Who may connect: certificates, tokens, and what is refused before anybody can.

use loop_wire::session::{Nothing, Session};
use loop_wire::transport::{self, Connection, Options, Tls, Token};
use loop_wire::{Address, Code, Failure, Hello, Limits, Server, serve};
use std::sync::Arc;

use crate::certificates::Authority;
use crate::peer::{ECHO, Provider, hello};
use crate::rig::{Refusals, patient, request, service};

fn with(tls: Tls) -> Options {
    Options {
        tls: Some(tls),
        ..Options::default()
    }
}

async fn server(scheme: &str, options: Options) -> (Server, Arc<Refusals>) {
    let (mut service, refusals) = service(Provider::new().0, Limits::default());
    service.token = options.token.clone();
    let address: Address = format!("{scheme}://127.0.0.1:0").parse().unwrap();
    let listener = transport::listen(&address, &options).await.unwrap();
    (serve(listener, service), refusals)
}

/// Connects under the name that certificates of these tests have, says `hello`, and calls.
async fn call(server: &Server, tls: Option<Tls>, hello: Hello) -> Result<(), Failure> {
    let tls = tls.map(|tls| Tls {
        server_name: tls.server_name.or(Some("localhost".into())),
        ..tls
    });
    let options = Options {
        tls,
        ..Options::default()
    };
    let connection = patient(transport::connect(&server.addresses()[0], &options)).await?;
    let Connection::Bytes(io, peer) = connection else {
        panic!("bytes");
    };
    assert_eq!(peer.certificate, options.tls.map(|_| vec!["localhost".into()]));
    let (session, driver) = Session::connect(io, hello, Arc::new(Nothing));
    tokio::spawn(driver);
    patient(session.ready()).await?;
    patient(session.call(request(ECHO, "x"))).await.map(drop)
}

fn caller() -> Hello {
    hello(false, Limits::default())
}

#[tokio::test]
async fn a_listener_whose_certificate_is_wrong_is_not_called() {
    let (authority, other) = (Authority::new(), Authority::new());
    let believed = authority.believed();
    for (own, asked, why) in [
        (
            other.issue("localhost"),
            believed.clone(),
            "of an issuer that is not among tls.authorities",
        ),
        (
            authority.issue_in("localhost", 2000..2001),
            believed.clone(),
            "has expired",
        ),
        (
            authority.issue_in("localhost", 3000..3001),
            believed.clone(),
            "is not valid yet",
        ),
        (
            authority.issue("localhost"),
            Tls {
                server_name: Some("kv.example.com".into()),
                ..believed.clone()
            },
            "has another name",
        ),
    ] {
        for scheme in ["tcp", "wss"] {
            let (server, _) = server(scheme, with(own.clone())).await;
            let failure = call(&server, Some(asked.clone()), caller()).await.expect_err(why);
            assert_eq!(failure.code, Code::Unauthenticated, "{failure}");
            assert!(failure.message.contains(why), "{failure}");
        }
    }
    let (server, _) = server("tcp", with(authority.issue("localhost"))).await;
    call(&server, Some(believed), caller()).await.expect("an answer");
}

#[tokio::test]
async fn a_listener_may_demand_certificates() {
    let (authority, other) = (Authority::new(), Authority::new());
    let demanding = Tls {
        require_client: true,
        ..authority.issue("localhost")
    };
    let believing = |tls: Tls| Tls {
        authorities: authority.believed().authorities,
        ..tls
    };
    for (own, theirs, ours) in [
        (
            authority.believed(),
            "asks for a client certificate",
            "showed no client certificate",
        ),
        (
            believing(other.issue("app")),
            "does not know the issuer",
            "of an issuer that is not among tls.authorities",
        ),
        (
            authority.issue_in("app", 2000..2001),
            "has expired",
            "has expired",
        ),
    ] {
        let (server, refusals) = server("tcp", with(demanding.clone())).await;
        let failure = call(&server, Some(own), caller()).await.expect_err(theirs);
        assert!(failure.message.contains(theirs), "{failure}");
        let refusal = refusals.next().await;
        assert_eq!(refusal.code, Code::Unauthenticated, "{refusal}");
        assert!(refusal.message.contains(ours), "{refusal}");
    }
    for scheme in ["tcp", "wss"] {
        let (server, _) = server(scheme, with(demanding.clone())).await;
        for (identity, fits) in [("", true), ("app", true), ("admin", false)] {
            let hello = Hello {
                identity: identity.into(),
                ..caller()
            };
            let called = call(&server, Some(authority.issue("app")), hello).await;
            match called {
                Ok(()) => assert!(fits, "{identity} is another's"),
                Err(failure) => {
                    assert!(!fits, "{failure}");
                    assert_eq!(failure.code, Code::Unauthenticated, "{failure}");
                    assert!(
                        failure.message.contains("its certificate is for app"),
                        "{failure}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn a_token_is_asked_for() {
    let token = Some(Token(b"secret".to_vec()));
    let options = Options {
        token,
        ..Options::default()
    };
    let (server, refusals) = server("tcp", options).await;
    for (shown, why) in [
        ("", "none was shown"),
        ("secreT", "not the right one"),
        ("secrets", "not the right one"),
    ] {
        let hello = Hello {
            token: shown.into(),
            ..caller()
        };
        let failure = call(&server, None, hello).await.expect_err(why);
        assert_eq!(failure.code, Code::Unauthenticated, "{failure}");
        assert!(failure.message.contains(why), "{failure}");
        assert_eq!(refusals.next().await, failure);
    }
    let hello = Hello {
        token: "secret".into(),
        ..caller()
    };
    call(&server, None, hello).await.expect("an answer");
}

#[tokio::test]
async fn what_speaks_no_tls_is_refused() {
    let authority = Authority::new();
    let (secured, refusals) = server("tcp", with(authority.issue("localhost"))).await;
    call(&secured, None, caller()).await.expect_err("TLS");
    let refusal = refusals.next().await;
    assert!(refusal.message.contains("does not speak TLS"), "{refusal}");
    let (bare, _) = server("tcp", Options::default()).await;
    let failure = call(&bare, Some(authority.believed()), caller())
        .await
        .expect_err("no TLS");
    assert_eq!(failure.code, Code::ProviderGone, "{failure}");
}

#[tokio::test]
async fn what_other_machines_reach_is_not_listened_at_in_the_open() {
    let authority = Authority::new();
    let tls = authority.issue("localhost");
    let token = Some(Token(b"secret".to_vec()));
    let mutual = Tls {
        require_client: true,
        ..tls.clone()
    };
    let options = |tls: Option<&Tls>, token: Option<&Token>| Options {
        tls: tls.cloned(),
        token: token.cloned(),
        ..Options::default()
    };
    for (address, options, add) in [
        (
            "tcp://0.0.0.0:0",
            options(None, None),
            "tls.certificate and tls.key, and a token or tls.require_client",
        ),
        (
            "tcp://[::]:0",
            options(None, token.as_ref()),
            "tls.certificate and tls.key,",
        ),
        (
            "tcp://0.0.0.0:0",
            options(Some(&tls), None),
            "a token, or tls.require_client",
        ),
        (
            "ws://0.0.0.0:0",
            options(Some(&mutual), token.as_ref()),
            "TLS, by wss:",
        ),
        (
            "wss://0.0.0.0:0",
            options(Some(&tls), None),
            "a token, or tls.require_client",
        ),
        ("quic://0.0.0.0:0", options(None, None), "tls.certificate"),
        (
            "http2://0.0.0.0:0",
            options(None, token.as_ref()),
            "tls.certificate",
        ),
    ] {
        let address: Address = address.parse().unwrap();
        let failure = transport::listen(&address, &options)
            .await
            .expect_err("in the open");
        assert_eq!(failure.code, Code::Unauthenticated, "{failure}");
        assert!(failure.message.contains(&format!("add {add}")), "{failure}");
    }
    for options in [options(Some(&mutual), None), options(Some(&tls), token.as_ref())] {
        let address: Address = "tcp://0.0.0.0:0".parse().unwrap();
        transport::listen(&address, &options).await.expect("a listener");
    }
}

#[tokio::test]
async fn what_is_missing_for_tls_is_named() {
    let authority = Authority::new();
    let whole = authority.issue("localhost");
    let file = |name: &str| transport::Pem::File(name.into());
    let text = |text: &str| transport::Pem::Text(text.into());
    for (tls, option, why) in [
        (authority.believed(), "tls", "needs tls.certificate"),
        (
            Tls {
                key: None,
                ..whole.clone()
            },
            "tls.certificate",
            "tls.key is missing",
        ),
        (
            Tls {
                certificate: Some(file("/nowhere.pem")),
                ..whole.clone()
            },
            "tls.certificate",
            "/nowhere.pem cannot be read",
        ),
        (
            Tls {
                certificate: Some(text("nothing")),
                ..whole.clone()
            },
            "tls.certificate",
            "no certificate in PEM",
        ),
        (
            Tls {
                key: Authority::new().issue("localhost").key,
                ..whole.clone()
            },
            "tls.certificate",
            "cannot be used",
        ),
        (
            Tls {
                require_client: true,
                authorities: vec![],
                ..whole
            },
            "tls.require_client",
            "tls.authorities is missing",
        ),
    ] {
        let address: Address = "tcp://127.0.0.1:0".parse().unwrap();
        let failure = transport::listen(&address, &with(tls)).await.expect_err(why);
        assert_eq!(
            (failure.code, failure.field("option")),
            (Code::BadValue, Some(option)),
            "{failure}"
        );
        assert!(failure.message.contains(why), "{failure}");
    }
}
