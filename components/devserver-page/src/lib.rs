//! Serves the page of the dev server over `loop:netx`, and tells it by WebSocket what `loop:devserver` tells.

wit_bindgen::generate!({
    path: [
        "../../python/loop_kit/capabilities/core/wit",
        "../../python/loop_kit/capabilities/netx/wit",
        "../../python/loop_kit/capabilities/devserver/wit",
        "wit",
    ],
    world: "loop:devserver-page/page",
    generate_all,
});

mod ask;
mod gate;
mod json;
mod talk;
mod web;

use std::cell::RefCell;
use std::rc::Rc;

use wit_bindgen::spawn_local;

use exports::loop_::devserver_page::server::{Guest, Settings};
use gate::{Gate, Verdict};
use loop_::netx::http_server::{Exchange, Listener, listen};

/// What all requests share.
struct Shared {
    listener: Listener,
    gate: Gate,
    web: web::Web,
    open: talk::Places,
}

thread_local! {
    static SHARED: RefCell<Option<Rc<Shared>>> = const { RefCell::new(None) };
}

struct Page;

impl Guest for Page {
    async fn open(settings: Settings) -> Result<String, String> {
        // Without routes every request comes here: none is answered before it was looked at.
        let listener = listen(settings.listen, vec![])
            .await
            .map_err(|e| format!("{e:?}"))?;
        let address = listener.address();
        let shared = Shared {
            gate: Gate::new(&address, &settings.token),
            web: web::Web::new(&address),
            open: talk::Places::default(),
            listener,
        };
        SHARED.set(Some(Rc::new(shared)));
        Ok(address)
    }

    async fn run() -> String {
        let Some(shared) = SHARED.with_borrow(Clone::clone) else {
            return "it was not opened".into();
        };
        loop {
            match shared.listener.accept().await {
                Ok(exchange) => {
                    spawn_local(answer(shared.clone(), exchange));
                }
                Err(e) => return format!("{e:?}"),
            }
        }
    }
}

/// Answers one request. That its client has gone is nobody's matter.
async fn answer(shared: Rc<Shared>, exchange: Exchange) {
    let request = exchange.request();
    match shared.gate.verdict(&request) {
        Verdict::Refused(why) => shared.web.refuse(&exchange, why),
        Verdict::File => shared.web.give(&exchange, &request),
        Verdict::Challenge(made) => shared.web.challenge(&exchange, &made),
        Verdict::Socket(proof) => {
            let Some(place) = shared.open.take() else {
                return shared.web.full(&exchange);
            };
            let chosen = Some(gate::PROTOCOL.to_string());
            if let Ok(connection) = exchange.upgrade(chosen, vec![]).await {
                talk::talk(Rc::new(connection), &shared.web.version, &proof).await;
            }
            drop(place);
        }
    }
}

export!(Page);
