//! Forwards over fake ends: pods that refuse, die, answer.

use super::*;
use serde_json::json;
use std::collections::VecDeque;
use std::sync::Mutex;

#[test]
fn ports_are_read_as_kubectl_reads_them() {
    assert_eq!(ports("80").unwrap(), (80, "80".to_owned()));
    assert_eq!(ports("8080:http").unwrap(), (8080, "http".to_owned()));
    assert_eq!(ports("0:80").unwrap(), (0, "80".to_owned()));
    assert_eq!(ports("http").unwrap(), (0, "http".to_owned()));
    for bad in ["", ":", ":80", "80:", "a:80", "70000", "80:70000", "1:2:3", "0:0"] {
        assert!(ports(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_services_port_leads_to_the_pods_port() {
    let service: Service = serde_json::from_value(json!({ "spec": { "ports": [
        { "port": 80, "name": "http", "targetPort": "web" }, { "port": 81, "targetPort": 8081 }, { "port": 82 } ] } }))
    .unwrap();
    let found = |port| target_port(&service, port);
    assert_eq!(found("http").as_deref(), Some("web"));
    assert_eq!([found("80"), found("81"), found("82"), found("83")].map(Option::unwrap_or_default), ["web", "8081", "82", ""]);
    let pod: Pod = serde_json::from_value(json!({ "spec": { "containers": [
        { "name": "c", "ports": [{ "containerPort": 8080, "name": "web" }] } ] } }))
    .unwrap();
    assert_eq!([container_port(&pod, "web"), container_port(&pod, "9"), container_port(&pod, "x")], [Some(8080), Some(9), None]);
}

/// One try: no pod, a pod that refuses, one that dies, or one that echoes.
#[derive(Clone, Copy)]
enum Try {
    None,
    Refuses,
    Dies,
    Echoes,
}

async fn end(how: Try) -> Result<End, String> {
    let (ours, mut theirs) = tokio::io::duplex(1 << 16);
    let said = |text: Option<&str>| -> futures_util::future::BoxFuture<'static, Option<String>> {
        let text = text.map(str::to_owned);
        Box::pin(std::future::ready(text))
    };
    match how {
        Try::None => Err("no pod is ready".to_owned()),
        Try::Refuses => Ok(End { stream: ours, error: said(Some("failed to connect to localhost:80: connection refused")) }),
        Try::Dies => Ok(End { stream: ours, error: said(Some("lost the container")) }),
        Try::Echoes => {
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(&mut theirs);
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
            Ok(End { stream: ours, error: Box::pin(std::future::pending()) })
        }
    }
}

/// What a client that sends `hello` and closes reads back, over these tries.
async fn talk(tries: &[Try], patience: Duration) -> (String, Result<(), String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let tries: Mutex<VecDeque<Try>> = Mutex::new(tries.iter().copied().collect());
    let relayed = async {
        let mut connect = || end(tries.lock().unwrap().pop_front().unwrap_or(Try::None));
        let result = relay(&mut server, &mut connect, patience).await;
        drop(server);
        result
    };
    let talked = async {
        client.write_all(b"hello").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut text = vec![0; 5];
        let read = client.read_exact(&mut text).await.map(|_| ());
        let _ = client.shutdown().await;
        read.map(|()| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    };
    tokio::join!(talked, relayed)
}

#[tokio::test]
async fn a_connection_waits_for_a_pod_that_takes_it() {
    let (text, result) = talk(&[Try::None, Try::Refuses, Try::Echoes], PATIENCE).await;
    assert_eq!((text.as_str(), result), ("hello", Ok(())));
}

#[tokio::test]
async fn patience_ends_and_a_pod_that_took_it_is_not_asked_twice() {
    let (text, result) = talk(&[Try::None, Try::None], Duration::from_millis(100)).await;
    assert_eq!((text.as_str(), result), ("", Err("no pod is ready".to_owned())));
    let (text, result) = talk(&[Try::Dies, Try::Echoes], PATIENCE).await;
    assert_eq!((text.as_str(), result), ("", Ok(())));
}
