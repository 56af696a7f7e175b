//! Sessions over every transport, each against itself on this machine, and what hostile peers may do to them.

mod certificates;
mod faults;
mod golden;
mod hostile;
#[cfg(target_os = "linux")]
mod memory;
mod native;
mod nats;
mod network;
mod peer;
mod plain;
mod proxy;
mod rig;
mod secured;
mod sockets;
mod suite;

/// One list of cases, run over each transport.
macro_rules! over {
    ($($name:ident: $way:expr,)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use crate::rig::{Native, Way};
            use crate::suite;

            over!(@ $way, small_calls, one_mebibyte, thousands_of_calls_in_a_row, sixty_four_mebibytes, a_thousand_calls_in_flight,
                streams_both_ways, many_small_chunks, unread_streams_hold_their_writer,
                thousands_of_futures_in_a_stream, cancelling, deadlines, failures_keep_their_fields,
                pings_keep_it_alive, going_away, links_and_handles, cut_within_a_call, cut_within_a_stream);
        }
    )*};
    (@ $way:expr, $($case:ident),*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            if $way == Way::Nats && crate::nats::binary().is_none() {
                return;
            }
            suite::$case($way).await;
        }
    )*};
}

over! {
    unix: Way::Unix,
    shm: Way::Shm,
    tcp: Way::Tcp,
    tls: Way::Tls,
    ws: Way::Ws,
    wss: Way::Wss,
    pipes: Way::Pipes,
    quic: Way::Quic,
    http2: Way::Http2,
    http2_tls: Way::Http2Tls,
    over_nats: Way::Nats,
    quic_taken: Way::Taken(Native::Quic),
    quic_dialled: Way::Dialled(Native::Quic),
    quic_between: Way::Between(Native::Quic),
    http2_taken: Way::Taken(Native::Http2),
    http2_dialled: Way::Dialled(Native::Http2),
    http2_between: Way::Between(Native::Http2),
}
