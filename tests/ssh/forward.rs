//! Forwards of ports and sockets, both ways.

use labimg::ssh::{Command, Endpoint, Session};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::server::{Server, eventually};

/// Sends a megabyte and wants it back, reversed piece by piece, then the end.
async fn echoes(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let data: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let mut back = Vec::new();
    let (sent, got) = tokio::join!(
        async {
            write.write_all(&data).await?;
            write.shutdown().await
        },
        read.read_to_end(&mut back)
    );
    sent.unwrap();
    got.unwrap();
    assert!(back == data);
}

async fn echo_tcp() -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (mut read, mut write) = stream.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut read, &mut write).await });
        }
    });
    Endpoint::Tcp("127.0.0.1".into(), port)
}

fn echo_unix(path: std::path::PathBuf) -> Endpoint {
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (mut read, mut write) = stream.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut read, &mut write).await });
        }
    });
    Endpoint::Unix(path)
}

async fn dial(at: &Endpoint) {
    match at {
        Endpoint::Tcp(host, port) => echoes(TcpStream::connect((host.as_str(), *port)).await.unwrap()).await,
        Endpoint::Unix(path) => echoes(UnixStream::connect(path).await.unwrap()).await,
    }
}

fn any() -> Endpoint {
    Endpoint::Tcp("127.0.0.1".into(), 0)
}

async fn all_ways(server: &Server, session: &Session) {
    let tcp = echo_tcp().await;
    let unix = echo_unix(server.path("echo"));
    let socket = |name: &str| Endpoint::Unix(server.path(name));
    for (listen, to) in [(any(), &tcp), (any(), &unix), (socket("l1"), &unix), (socket("l2"), &tcp)] {
        let forward = session.forward(&listen, to).await.unwrap();
        tokio::join!(dial(forward.at()), dial(forward.at()));
        dial(forward.at()).await;
        assert_eq!(forward.trouble(), None);
    }
    assert!(!server.path("l1").exists(), "the socket goes with its forward");
    for (listen, to) in [(any(), &tcp), (any(), &unix), (socket("r1"), &unix), (socket("r2"), &tcp)] {
        let forward = session.forward_back(&listen, to).await.unwrap();
        tokio::join!(dial(forward.at()), dial(forward.at()));
        dial(forward.at()).await;
        assert_eq!(forward.trouble(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_and_sockets_both_ways() {
    let Some(server) = Server::start() else { return };
    let session = server.session().await;
    all_ways(&server, &session).await;
    assert_eq!(session.run(&Command::new("echo on"), 100).await.unwrap().stdout, b"on\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_answer_is_said() {
    let Some(server) = Server::start_with("AllowStreamLocalForwarding no", "ed25519", None) else { return };
    let session = server.session().await;
    let nobody = Endpoint::Unix(server.path("nobody"));
    let forward = session.forward(&any(), &nobody).await.unwrap();
    let Endpoint::Tcp(host, port) = forward.at() else { panic!("{}", forward.at()) };
    let mut stream = TcpStream::connect((host.as_str(), *port)).await.unwrap();
    assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap_or(0), 0);
    eventually("the trouble", || forward.trouble().is_some()).await;
    assert!(forward.trouble().unwrap().contains("nobody"), "{:?}", forward.trouble());
    let refused = session.forward_back(&nobody, &any()).await.err().unwrap();
    assert!(refused.to_string().contains("web refused to listen on"), "{refused}");
    let taken = session.forward(forward.at(), &nobody).await.err().unwrap();
    assert!(taken.to_string().contains("can not listen on 127.0.0.1:"), "{taken}");
}
