//! A network that delays, loses and parts, between the two ends of a connection.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// What happens to all that passes, each way.
pub struct Network {
    delay: AtomicU64,
    /// Of a thousand datagrams.
    loss: AtomicU64,
    parted: watch::Sender<bool>,
    /// What had to wait, or was lost, while parted.
    held: watch::Sender<usize>,
    random: AtomicU64,
    /// What the side that connects has said.
    said: Mutex<Vec<Vec<u8>>>,
}

/// A port that leads to another, through a [`Network`]. It is closed when dropped.
pub struct Proxy {
    pub address: SocketAddr,
    pub network: Arc<Network>,
    _tasks: JoinSet<()>,
}

impl Network {
    fn new() -> Arc<Self> {
        Arc::new(Network {
            delay: AtomicU64::new(0),
            loss: AtomicU64::new(0),
            parted: watch::Sender::new(false),
            held: watch::Sender::new(0),
            random: AtomicU64::new(1),
            said: Mutex::default(),
        })
    }

    /// From now on everything takes so much longer.
    pub fn delay(&self, delay: Duration) {
        self.delay.store(delay.as_micros() as u64, SeqCst);
    }

    /// From now on so many of a thousand datagrams are lost.
    pub fn lose(&self, of_a_thousand: u64) {
        self.loss.store(of_a_thousand, SeqCst);
    }

    /// Nothing passes, and nobody is told.
    pub fn part(&self) {
        self.held.send_replace(0);
        self.parted.send_replace(true);
    }

    pub fn heal(&self) {
        self.parted.send_replace(false);
    }

    /// Waits until something did not pass since it was parted.
    pub async fn held(&self) {
        let _ = self.held.subscribe().wait_for(|n| *n > 0).await;
    }

    pub fn said(&self) -> Vec<Vec<u8>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, bytes: &[u8]) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.push(bytes.to_vec());
    }

    fn due(&self) -> Instant {
        Instant::now() + Duration::from_micros(self.delay.load(SeqCst))
    }

    /// Waits while nothing passes.
    async fn pass(&self) {
        if *self.parted.borrow() {
            self.held.send_modify(|n| *n += 1);
        }
        let _ = self.parted.subscribe().wait_for(|parted| !parted).await;
    }

    fn loses(&self) -> bool {
        if *self.parted.borrow() {
            self.held.send_modify(|n| *n += 1);
            return true;
        }
        let x = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, SeqCst);
        let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (x ^ x >> 27) % 1000 < self.loss.load(SeqCst)
    }
}

impl Proxy {
    pub async fn tcp(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, network) = (listener.local_addr().unwrap(), Network::new());
        let mut tasks = JoinSet::new();
        let shared = network.clone();
        tasks.spawn(async move {
            let mut pumps = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(to).await else {
                    continue;
                };
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                let (near, far) = (near.into_split(), far.into_split());
                pumps.spawn(pump(near.0, far.1, shared.clone(), true));
                pumps.spawn(pump(far.0, near.1, shared.clone(), false));
            }
        });
        Proxy {
            address,
            network,
            _tasks: tasks,
        }
    }

    pub async fn udp(to: SocketAddr) -> Self {
        let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let (address, network) = (near.local_addr().unwrap(), Network::new());
        let mut tasks = JoinSet::new();
        let shared = network.clone();
        tasks.spawn(async move {
            let mut far: HashMap<SocketAddr, mpsc::UnboundedSender<(Instant, Vec<u8>)>> = HashMap::new();
            let mut links = JoinSet::new();
            let mut buffer = vec![0; 65536];
            while let Ok((n, from)) = near.recv_from(&mut buffer).await {
                shared.note(&buffer[..n]);
                if shared.loses() {
                    continue;
                }
                if let Entry::Vacant(place) = far.entry(from) {
                    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                    socket.connect(to).await.unwrap();
                    place.insert(line(&mut links, socket.clone(), None));
                    let back = line(&mut links, near.clone(), Some(from));
                    links.spawn(answers(socket, back, shared.clone()));
                }
                let _ = far[&from].send((shared.due(), buffer[..n].to_vec()));
            }
        });
        Proxy {
            address,
            network,
            _tasks: tasks,
        }
    }
}

/// Sends datagrams when they are due.
fn line(
    tasks: &mut JoinSet<()>,
    socket: Arc<UdpSocket>,
    to: Option<SocketAddr>,
) -> mpsc::UnboundedSender<(Instant, Vec<u8>)> {
    let (sender, mut datagrams) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tasks.spawn(async move {
        while let Some((due, datagram)) = datagrams.recv().await {
            sleep_until(due).await;
            // whoever has gone has lost it
            let _ = match to {
                Some(to) => socket.send_to(&datagram, to).await,
                None => socket.send(&datagram).await,
            };
        }
    });
    sender
}

async fn answers(
    from: Arc<UdpSocket>,
    back: mpsc::UnboundedSender<(Instant, Vec<u8>)>,
    network: Arc<Network>,
) {
    let mut buffer = vec![0; 65536];
    loop {
        let Ok(n) = from.recv(&mut buffer).await else {
            continue;
        };
        if !network.loses() && back.send((network.due(), buffer[..n].to_vec())).is_err() {
            return;
        }
    }
}

/// Moves the bytes of one direction until they end.
async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    network: Arc<Network>,
    said: bool,
) {
    let (sender, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let writing = {
        let network = network.clone();
        async move {
            while let Some((at, bytes)) = due.recv().await {
                sleep_until(at).await;
                network.pass().await;
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            network.pass().await;
            let _ = to.shutdown().await;
        }
    };
    let reading = async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            if said {
                network.note(&buffer[..n]);
            }
            if sender.send((network.due(), buffer[..n].to_vec())).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}
