//! How secrets are made: texts without bias, authorities and certificates (ECDSA P-256, RFC 5280).

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::{Hidden, Values};
use crate::base::calendar;
use crate::lab::error::LabError;
use crate::model::profile::Secret;

const ALNUM: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const HEX: &[u8; 16] = b"0123456789abcdef";
/// Longest text, as the profile allows it.
const LONGEST: usize = 1024;
const DAY: u64 = 24 * 60 * 60;
/// Valid from a day before now, for clocks that are behind, for ten years.
const BEFORE: u64 = DAY;
const AFTER: u64 = 3650 * DAY;

/// Makes the secret `name`; `ca` is the authority that signs it, with its own table. `now`: seconds since 1970.
///
/// # Errors
/// A text that says no way to make one (a profile that was checked has none); no randomness.
pub fn generate(name: &str, secret: &Secret, ca: Option<(&Secret, &Values)>, now: u64) -> Result<Values, LabError> {
    let failed = |why: &dyn ToString| LabError::failed(format!("secret `{name}`"), why.to_string());
    let text = secret.generate.as_ref().map(|g| g.as_str()).unwrap_or_default();
    let way = text.split_once(':');
    let length = |n: &str| n.parse().ok().filter(|n| (1..=LONGEST).contains(n));
    match way {
        Some(("alnum", n)) => {
            let n = length(n).ok_or_else(|| failed(&format!("`{text}` is no length")))?;
            Ok(Values { text: Some(random(ALNUM, n)?), ..Values::default() })
        }
        Some(("hex", n)) => {
            let n = length(n).ok_or_else(|| failed(&format!("`{text}` is no length")))?;
            Ok(Values { text: Some(random(HEX, n)?), ..Values::default() })
        }
        Some(("ca", subject)) => authority(subject, now).map_err(|e| failed(&e)),
        Some(("cert", subject)) => {
            let ca = ca.ok_or_else(|| failed(&"the secret that signs it is not there"))?;
            let names = secret.names.iter().map(|n| n.to_string()).collect();
            certificate(subject, names, ca, now).map_err(|e| failed(&e))
        }
        _ => Err(failed(&format!("`{text}` is no way to make a secret"))),
    }
}

/// `n` characters of `alphabet`, each as likely as any other: bytes beyond the last whole multiple are thrown away.
fn random(alphabet: &[u8], n: usize) -> Result<Hidden, LabError> {
    let bound = 256 - 256 % alphabet.len();
    let mut text = String::with_capacity(n);
    let mut bytes = [0; 256];
    while text.len() < n {
        getrandom::fill(&mut bytes).map_err(LabError::internal)?;
        let fair = bytes.iter().map(|b| usize::from(*b)).filter(|b| *b < bound);
        let chars = fair.filter_map(|b| alphabet.get(b % alphabet.len())).map(|c| char::from(*c));
        text.extend(chars.take(n - text.len()));
    }
    bytes.fill(0);
    Ok(Hidden::new(text))
}

/// Year, month and day of `seconds` since 1970; years beyond 8300 are taken for 8307.
fn date(seconds: u64) -> (i32, u8, u8) {
    let (year, month, day) = calendar::date((seconds.min(200_000_000_000) / DAY) as i64);
    // All three are small: the calendar gives months and days, and the year is bounded above.
    (year as i32, month as u8, day as u8)
}

fn params(subject: &str, names: Vec<String>, now: u64) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    let (year, month, day) = date(now.saturating_sub(BEFORE));
    params.not_before = rcgen::date_time_ymd(year, month, day);
    let (year, month, day) = date(now.saturating_add(AFTER));
    params.not_after = rcgen::date_time_ymd(year, month, day);
    Ok(params)
}

fn authority_params(subject: &str, now: u64) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(subject, Vec::new(), now)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn authority(subject: &str, now: u64) -> Result<Values, rcgen::Error> {
    let params = authority_params(subject, now)?;
    let key = KeyPair::generate()?;
    let crt = params.self_signed(&key)?.pem();
    let (crt, key) = (Hidden::new(crt), Hidden::new(key.serialize_pem()));
    Ok(Values { ca: Some(crt.clone()), crt: Some(crt), key: Some(key), text: None })
}

fn certificate(
    subject: &str,
    names: Vec<String>,
    (table, ca): (&Secret, &Values),
    now: u64,
) -> Result<Values, rcgen::Error> {
    let names = if names.is_empty() { vec![subject.to_owned()] } else { names };
    let mut params = params(subject, names, now)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let ca_key = KeyPair::from_pem(ca.key.as_ref().map(Hidden::reveal).unwrap_or_default())?;
    let ca_subject = table.generate.as_ref().and_then(|g| g.strip_prefix("ca:")).unwrap_or_default();
    // An issuer is its name and key; the rest of these parameters does not matter here.
    let issuer = Issuer::new(authority_params(ca_subject, now)?, ca_key);
    let key = KeyPair::generate()?;
    let crt = params.signed_by(&key, &issuer)?.pem();
    let (crt, key) = (Hidden::new(crt), Hidden::new(key.serialize_pem()));
    Ok(Values { crt: Some(crt), key: Some(key), ca: ca.crt.clone(), text: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::source_map::Loc;

    fn table(text: &str, names: &[&str]) -> Secret {
        let names = names.iter().map(|n| Loc::made((*n).to_owned())).collect();
        Secret { generate: Some(Loc::made(text.to_owned())), ca: None, names, field: None }
    }

    #[test]
    fn texts_have_their_length_and_alphabet() {
        let text = |way| generate("x", &table(way, &[]), None, 0).unwrap().text.unwrap().reveal().to_owned();
        let (alnum, hex) = (text("alnum:1024"), text("hex:32"));
        assert_eq!((alnum.len(), hex.len()), (1024, 32));
        assert!(alnum.bytes().all(|b| b.is_ascii_alphanumeric()) && hex.bytes().all(|b| HEX.contains(&b)));
        assert!(ALNUM.iter().filter(|c| alnum.as_bytes().contains(c)).count() > 55, "{alnum}");
        assert_ne!(text("hex:32"), hex);
        for bad in ["alnum:x", "alnum:0", "alnum:999999", "dice:6", ""] {
            assert!(generate("x", &table(bad, &[]), None, 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_certificate_is_signed_by_its_authority() {
        let now = 1_800_000_000;
        let ca_table = table("ca:Lab CA", &[]);
        let ca = generate("ca", &ca_table, None, now).unwrap();
        let names = ["web.lab", "10.0.0.1", "*.lab"];
        let cert = generate("c", &table("cert:web", &names), Some((&ca_table, &ca)), now).unwrap();
        assert_eq!(cert.ca, ca.crt);
        let dir = tempfile::tempdir().unwrap();
        for (name, hidden) in [("ca", &ca.crt), ("crt", &cert.crt)] {
            fs_err::write(dir.path().join(name), hidden.as_ref().unwrap().reveal()).unwrap();
        }
        let openssl = |args: &[&str]| {
            let run = std::process::Command::new("openssl").args(args).current_dir(dir.path()).output();
            let run = run.expect("openssl");
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
            String::from_utf8(run.stdout).unwrap()
        };
        openssl(&[
            "verify",
            "-x509_strict",
            "-attime",
            &now.to_string(),
            "-CAfile",
            "ca",
            "-verify_ip",
            "10.0.0.1",
            "crt",
        ]);
        openssl(&[
            "verify",
            "-attime",
            &(now + 3600 * DAY).to_string(),
            "-CAfile",
            "ca",
            "-verify_hostname",
            "x.lab",
            "crt",
        ]);
        let text = openssl(&["x509", "-in", "crt", "-noout", "-text"]);
        assert!(text.contains("prime256v1") && text.contains("CN = web"), "{text}");
        assert!(text.contains("Not Before: Jan 14 00:00:00 2027"), "{text}");
    }
}
