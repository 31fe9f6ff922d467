//! The proxy between a client and a server that echoes.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use groundplane_sim::{Door, Faults, Harm, Proxy, Way};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Longer than anything here takes; a test that waits so long has failed.
const NEVER: Duration = Duration::from_secs(30);

/// Long enough to see that nothing comes.
const A_WHILE: Duration = Duration::from_millis(60);

async fn echo() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

async fn rig() -> (Proxy, TcpStream) {
    let proxy = Proxy::start(echo().await, 7).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    // Until it is carried, a fault of the door would be its fault, too.
    assert_eq!(round(&mut stream, b"x").await.unwrap(), b"x");
    (proxy, stream)
}

/// Sends and waits for as many bytes back.
async fn round(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let work = async {
        let (mut from, mut to) = stream.split();
        let mut back = vec![0; bytes.len()];
        let (sent, got) = tokio::join!(to.write_all(bytes), from.read_exact(&mut back));
        sent.and(got.map(|_| back))
    };
    tokio::time::timeout(NEVER, work).await.expect("ends")
}

/// Whether nothing comes for a while.
async fn is_silent(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).await.unwrap();
    let mut back = [0; 64];
    tokio::time::timeout(A_WHILE, stream.read(&mut back)).await.is_err()
}

#[tokio::test]
async fn without_faults_it_carries_everything_as_it_is_and_counts() {
    let (proxy, mut stream) = rig().await;
    let much: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    assert!(round(&mut stream, &much).await.unwrap() == much);
    let figures = proxy.figures();
    assert_eq!((figures.accepted, figures.open, figures.harmed_bytes, figures.cut), (1, 1, 0, 0));
    assert_eq!((figures.up_bytes, figures.down_bytes), (3_000_001, 3_000_001));
    assert_eq!(proxy.accepted_within(NEVER), 1);
}

#[tokio::test]
async fn a_delay_is_kept_without_holding_up_what_follows() {
    let (proxy, mut stream) = rig().await;
    proxy.set(Faults::slow(Duration::from_millis(40)));
    let begun = Instant::now();
    let much = vec![1; 1 << 20];
    assert_eq!(round(&mut stream, &much).await.unwrap().len(), much.len());
    assert!(begun.elapsed() >= Duration::from_millis(40), "{:?}", begun.elapsed());
    // Were the delay taken once a chunk, one after the other, this would be 64 of them.
    assert!(begun.elapsed() < Duration::from_millis(64 * 40), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_throttled_way_is_no_faster_than_told() {
    let (proxy, mut stream) = rig().await;
    proxy.set(Faults { up: Way { bytes_per_second_max: Some(200_000), ..Way::default() }, ..Faults::none() });
    let begun = Instant::now();
    round(&mut stream, &vec![1; 40_000]).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(180), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn half_open_swallows_without_a_word_and_heals() {
    let (proxy, mut stream) = rig().await;
    proxy.set(Faults::half_open());
    let mut late = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(is_silent(&mut stream, b"lost").await);
    assert!(is_silent(&mut late, b"lost").await);
    proxy.heal();
    assert_eq!(round(&mut stream, b"found").await.unwrap(), b"found");
    assert!(is_silent(&mut late, b"lost").await, "a connection nobody answered stays dead");
    assert_eq!(proxy.figures().harmed_bytes, 4);
}

#[tokio::test]
async fn a_stall_loses_nothing() {
    let (proxy, mut stream) = rig().await;
    proxy.set(Faults::harm_up(Harm::Stall));
    // The proxy may have been reading when it was told.
    assert!(is_silent(&mut stream, b"held").await);
    proxy.heal();
    let mut back = [0; 4];
    tokio::time::timeout(NEVER, stream.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"held");
}

#[tokio::test]
async fn truncation_lets_through_what_it_says_and_closes() {
    let (proxy, mut stream) = rig().await;
    proxy.set(Faults::harm_down(Harm::Truncate { after_bytes: 5 }));
    stream.write_all(b"0123456789").await.unwrap();
    let mut back = Vec::new();
    let end = tokio::time::timeout(NEVER, stream.read_to_end(&mut back)).await.unwrap();
    assert_eq!(back, b"01234", "{end:?}");
    assert_eq!(proxy.figures().cut, 1);
}

#[tokio::test]
async fn resets_come_while_carrying_at_the_door_and_when_told() {
    let (proxy, mut stream) = rig().await;
    proxy.set(Faults::harm_down(Harm::Reset { after_bytes: 0 }));
    let reset = std::io::ErrorKind::ConnectionReset;
    assert_eq!(round(&mut stream, b"x").await.unwrap_err().kind(), reset);
    proxy.set(Faults { door: Door::Reset, ..Faults::none() });
    let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(refused.read(&mut [0; 1]).await.unwrap_err().kind(), reset);
    proxy.heal();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    round(&mut stream, b"x").await.unwrap();
    proxy.cut();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_err().kind(), reset);
}

#[tokio::test]
async fn corruption_changes_some_bytes_and_no_lengths() {
    let (proxy, mut stream) = rig().await;
    proxy.set(Faults::harm_down(Harm::Corrupt { every_bytes: 100 }));
    let back = round(&mut stream, &vec![0; 100_000]).await.unwrap();
    let spoiled = back.iter().filter(|b| **b != 0).count();
    assert!((700..1_300).contains(&spoiled), "{spoiled}");
    assert_eq!(proxy.figures().harmed_bytes, spoiled as u64);
}

#[tokio::test]
async fn a_shut_door_refuses_and_opens_again_at_the_same_port() {
    let (proxy, mut stream) = rig().await;
    proxy.set(Faults::gone());
    let refused = async {
        while TcpStream::connect(proxy.address()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(NEVER, refused).await.expect("refuses");
    assert_eq!(round(&mut stream, b"x").await.unwrap(), b"x", "what is open goes on");
    proxy.heal();
    let open = async {
        loop {
            if let Ok(stream) = TcpStream::connect(proxy.address()).await {
                return stream;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let mut stream = tokio::time::timeout(NEVER, open).await.expect("opens again");
    assert_eq!(round(&mut stream, b"x").await.unwrap(), b"x");
}
