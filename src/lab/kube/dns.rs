//! Names as a cluster's own DNS resolves them: DNS over TCP (RFC 1035 sections 4.1 and 4.2.2, RFC 3596 for AAAA) through a
//! port-forward to a CoreDNS pod, so that neither a pod nor an image is needed to ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Api, pods};
use crate::lab::error::LabError;

/// Where every distribution runs its DNS.
const NAMESPACE: &str = "kube-system";
/// Label that CoreDNS, and kube-dns before it, carries.
const LABEL: &str = "k8s-app=kube-dns";
/// Longest one look-up takes.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Record type of an IPv4 address.
const A: u16 = 1;
/// Record type of an IPv6 address.
const AAAA: u16 = 28;
/// The class of every record that is asked for.
const INTERNET: u16 = 1;

/// Addresses of `name` (whole: `web.default.svc.cluster.local`) as the cluster resolves it, IPv4 first, sorted; none where the
/// name does not exist or has no address.
///
/// # Errors
/// A cluster without a ready DNS pod, a pod that can not be reached, a server that fails or answers garbage.
pub async fn resolve(api: &Api, name: &str) -> Result<Vec<IpAddr>, LabError> {
    let what = || format!("resolve `{name}` in cluster `{}`", api.cluster);
    let questions = [question(1, name, A), question(2, name, AAAA)];
    let [Some(v4), Some(v6)] = questions else {
        return Err(LabError::failed(what(), "it is no DNS name"));
    };
    let (pod, port) = server(api).await?;
    let pods: kube::Api<Pod> = kube::Api::namespaced(api.client.clone(), NAMESPACE);
    let asked = async {
        let mut forward = pods.portforward(&pod, &[port]).await.map_err(|e| e.to_string())?;
        let mut stream = forward.take_stream(port).ok_or("no stream")?;
        let found = ask_both(&mut stream, &v4, &v6).await;
        forward.abort();
        found
    };
    let found = tokio::time::timeout(TIMEOUT, asked).await;
    let found = found.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())));
    found.map_err(|why| LabError::failed(what(), format!("pod `{NAMESPACE}/{pod}`: {why}")))
}

/// A ready DNS pod and the port it takes TCP at.
async fn server(api: &Api) -> Result<(String, u16), LabError> {
    let what = || format!("the DNS of cluster `{}`", api.cluster);
    let all: kube::Api<Pod> = kube::Api::namespaced(api.client.clone(), NAMESPACE);
    let found = all.list(&ListParams::default().labels(LABEL)).await.map_err(|e| LabError::failed(what(), e))?;
    let names = found.items.iter().filter(|p| pods::is_ready(p)).filter_map(|p| Some((p.metadata.name.clone()?, port_of(p))));
    names.min().ok_or_else(|| {
        let why = format!("no ready pod with label `{LABEL}` in namespace `{NAMESPACE}`");
        LabError::failed(what(), why).hint("`labimg kubectl get pods -n kube-system` shows them")
    })
}

fn port_of(pod: &Pod) -> u16 {
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    let mut ports = containers.flat_map(|c| c.ports.iter().flatten());
    let named = ports.find(|p| p.name.as_deref() == Some("dns-tcp"));
    named.and_then(|p| u16::try_from(p.container_port).ok()).unwrap_or(53)
}

async fn ask_both<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    v4: &[u8],
    v6: &[u8],
) -> Result<Vec<IpAddr>, String> {
    let mut found = ask(stream, v4).await?;
    found.extend(ask(stream, v6).await?);
    found.sort();
    found.dedup();
    Ok(found)
}

/// Sends one question and reads its answer; each has its length before it (RFC 1035 section 4.2.2).
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, question: &[u8]) -> Result<Vec<IpAddr>, String> {
    let length = u16::try_from(question.len()).map_err(|e| e.to_string())?;
    let framed = [&length.to_be_bytes()[..], question].concat();
    stream.write_all(&framed).await.map_err(|e| e.to_string())?;
    stream.flush().await.map_err(|e| e.to_string())?;
    let length = stream.read_u16().await.map_err(|e| format!("it closed the connection: {e}"))?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.map_err(|e| format!("the answer was cut off: {e}"))?;
    addresses(question, &answer)
}

/// A question for `name` and `kind`; `None` for a text that is no DNS name (RFC 1035 section 2.3.4: labels of 1 to 63 bytes,
/// 255 in all).
fn question(id: u16, name: &str, kind: u16) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len() + 18);
    out.extend(id.to_be_bytes());
    // Recursion desired; one question, nothing else.
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let name = name.strip_suffix('.').unwrap_or(name);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|l| (1..=63).contains(l))?;
        out.push(length);
        out.extend(label.bytes());
    }
    out.push(0);
    out.extend(kind.to_be_bytes());
    out.extend(INTERNET.to_be_bytes());
    (name.len() <= 253).then_some(out)
}

/// Reads a message from its start, never past its end.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// Passes over a name; a pointer (RFC 1035 section 4.1.4) ends it, so that no pointer is ever followed.
    fn skip_name(&mut self) -> Option<()> {
        loop {
            match self.take(1)? {
                [0] => return Some(()),
                [length] if *length < 64 => drop(self.take(usize::from(*length))?),
                [length] if *length >= 192 => return self.take(1).map(drop),
                _ => return None,
            }
        }
    }
}

/// The addresses in the answer to `question`; none where the name does not exist. Names of records are not looked at: what the
/// server puts into the answer is the chain of aliases and its end.
fn addresses(question: &[u8], answer: &[u8]) -> Result<Vec<IpAddr>, String> {
    let garbage = || "the answer is no DNS message".to_owned();
    let mut reader = Reader { bytes: answer, at: 0 };
    let id = reader.take(2).ok_or_else(garbage)?;
    let [high, low] = *reader.take(2).ok_or_else(garbage)? else { return Err(garbage()) };
    if !question.starts_with(id) || high & 0x80 == 0 {
        return Err("the answer is to another question".to_owned());
    }
    match low & 15 {
        0 => {}
        3 => return Ok(Vec::new()),
        code => return Err(failure(code)),
    }
    records(&mut reader).ok_or_else(garbage)
}

fn records(reader: &mut Reader<'_>) -> Option<Vec<IpAddr>> {
    let (questions, answers) = (reader.u16()?, reader.u16()?);
    reader.take(4)?;
    for _ in 0..questions {
        reader.skip_name()?;
        reader.take(4)?;
    }
    let mut found = Vec::new();
    for _ in 0..answers {
        reader.skip_name()?;
        let kind = reader.u16()?;
        reader.take(6)?;
        let length = reader.u16()?;
        let data = reader.take(usize::from(length))?;
        match kind {
            A => found.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
            AAAA => found.push(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
            _ => {}
        }
    }
    Some(found)
}

/// A response code in words (RFC 1035 section 4.1.1).
fn failure(code: u8) -> String {
    match code {
        1 => "the DNS server did not understand the question (FORMERR)".to_owned(),
        2 => "the DNS server failed (SERVFAIL); for a name outside the cluster: it has nobody to ask".to_owned(),
        5 => "the DNS server refuses to answer (REFUSED)".to_owned(),
        other => format!("the DNS server answered with code {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "web.default.svc.cluster.local";

    /// An answer with an alias first, names as pointers, as CoreDNS packs it.
    fn answer(question: &[u8], code: u8, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = question[..2].to_vec();
        out.extend([0x85, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
        out.extend(&question[12..]);
        for (kind, data) in records {
            out.extend([0xc0, 12]);
            out.extend(kind.to_be_bytes());
            out.extend([0, 1, 0, 0, 0, 30]);
            out.extend((data.len() as u16).to_be_bytes());
            out.extend(*data);
        }
        out
    }

    #[test]
    fn addresses_are_read_past_aliases_and_pointers() {
        let asked = question(7, NAME, A).unwrap();
        let text = answer(&asked, 0, &[(5, b"\x03web\x00"), (A, &[10, 96, 0, 10]), (AAAA, &[0; 16])]);
        let found = addresses(&asked, &text).unwrap();
        assert_eq!(found, ["10.96.0.10".parse::<IpAddr>().unwrap(), "::".parse().unwrap()]);
        // Nothing of it may be missing, and no cut may panic.
        for length in 0..text.len() {
            assert!(addresses(&asked, &text[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn no_such_name_is_no_address_and_a_failure_is_a_failure() {
        let asked = question(7, NAME, A).unwrap();
        assert_eq!(addresses(&asked, &answer(&asked, 3, &[])), Ok(vec![]));
        assert!(addresses(&asked, &answer(&asked, 2, &[])).unwrap_err().contains("SERVFAIL"));
        let other = question(8, NAME, A).unwrap();
        assert!(addresses(&other, &answer(&asked, 0, &[])).unwrap_err().contains("another"));
        assert!(addresses(&asked, &asked).is_err(), "a question is no answer");
    }

    #[test]
    fn names_that_dns_can_not_carry_are_no_questions() {
        let long = format!("{}.local", "x".repeat(64));
        let whole = ["abcdefg"; 40].join(".");
        for bad in ["", ".", "a..b", &long, &whole] {
            assert!(question(1, bad, A).is_none(), "{bad}");
        }
        assert_eq!(question(1, "a.b.", A), question(1, "a.b", A));
    }

    #[tokio::test]
    async fn both_families_are_asked_over_one_stream() {
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        let server = async move {
            for data in [&[10, 0, 0, 1][..], &[1; 16]] {
                let mut asked = vec![0; usize::from(theirs.read_u16().await.unwrap())];
                theirs.read_exact(&mut asked).await.unwrap();
                let kind = if data.len() == 4 { A } else { AAAA };
                let text = answer(&asked, 0, &[(kind, data)]);
                theirs.write_u16(text.len() as u16).await.unwrap();
                theirs.write_all(&text).await.unwrap();
            }
        };
        let (v4, v6) = (question(1, NAME, A).unwrap(), question(2, NAME, AAAA).unwrap());
        let (found, ()) = tokio::join!(ask_both(&mut ours, &v4, &v6), server);
        assert_eq!(found.unwrap().len(), 2);
    }
}
