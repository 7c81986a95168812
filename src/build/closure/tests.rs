//! Manifests against the images of a lab.

use super::*;
use crate::base::digest::Digest;
use crate::model::lock::{LockedImage, LockedLocal};
use crate::store::StoreError;

struct One(Vec<u8>);

impl BlobSource for One {
    fn blob_size(&self, _: &Digest) -> Option<u64> {
        Some(self.0.len() as u64)
    }
    fn open_blob(&self, _: &Digest) -> Result<Box<dyn std::io::Read + Send>, StoreError> {
        Ok(Box::new(std::io::Cursor::new(self.0.clone())))
    }
}

fn closure(manifest: &[u8]) -> Closure {
    let text = "schema = 1\nname = \"x\"\n[rewrite]\n\"gcr.io/old/x\" = \"quay.io/new/x\"\n\
         [[image]]\nref = \"made.lab/app:1\"\nbuild = \"app/image.toml\"\n\
         [[cluster]]\nname = \"c\"\nengine = \"kind\"\nkubernetes = \"v1.34.0\"\nregistry = { name = \"kind-registry\", port = 5001 }\n\
         [[manifest]]\nname = \"m\"\npath = \"m.yaml\"\n";
    let mut none = |_: &str| Err(String::new());
    let profile = crate::model::profile::parse("x.toml", text, &mut none).unwrap().profile;
    let image = |reference: &str, source: Option<&str>| LockedImage {
        reference: reference.parse().unwrap(),
        source: source.map(|s| s.parse().unwrap()),
        media_type: String::new(),
        digest: Digest::of(reference.as_bytes()),
        size: 1,
        platforms: Default::default(),
    };
    let lock = Lock {
        images: vec![image("docker.io/library/web:1", None), image("gcr.io/old/x:2", Some("quay.io/new/x:2"))],
        locals: vec![LockedLocal {
            path: "m.yaml".to_owned(),
            digest: Digest::of(manifest),
            size: manifest.len() as u64,
        }],
        ..Lock::default()
    };
    check(&profile, &lock, &One(manifest.to_vec())).unwrap()
}

fn pod(image: &str) -> Closure {
    let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n  - image: {image}\n");
    closure(text.as_bytes())
}

#[test]
fn carried_images_are_found_under_every_spelling() {
    let right = Digest::of(b"docker.io/library/web:1");
    for image in [
        "web:1",
        "docker.io/web:1",
        "index.docker.io/library/web:1",
        "gcr.io/old/x:2",
        "made.lab/app:1",
        &format!("web@{right}"),
        &format!("web:other@{right}"),
    ] {
        let found = pod(image);
        assert!(found.is_closed() && found.notes.is_empty() && found.images == 1, "{image}: {found:?}");
    }
}

#[test]
fn missing_images_are_told_with_the_lines_to_add() {
    let other = Digest::of(b"other");
    for image in ["web", "web:2", "quay.io/new/x:2", "ghcr.io/a/b:1", &format!("web:1@{other}")] {
        let found = pod(image);
        assert_eq!((found.missing.len(), found.notes.len()), (1, 0), "{image}");
    }
    let found = pod("web:2");
    let missing = &found.missing[0];
    assert_eq!((missing.line, missing.path.as_str()), (6, "spec.containers[0].image"));
    assert_eq!((missing.object.as_str(), missing.reference.as_str()), ("Pod p", "web:2"));
    assert!(missing.why.contains("the lab has 1"), "{}", missing.why);
    let error = found.require().unwrap_err();
    assert!(error.to_string().contains("manifest m, line 6: Pod p: spec.containers[0].image: `web:2`"), "{error}");
    assert_eq!(error.hint().unwrap(), "add to the profile:\n[[image]]\nref = \"docker.io/library/web:2\"");
    let nonsense = pod("'${IMAGE}'");
    assert_eq!((nonsense.missing.len(), &nonsense.missing[0].hint), (1, &None));
}

#[test]
fn what_attendees_push_is_no_gap() {
    for image in ["localhost:5001/app:1", "kind-registry:5000/app:1", "127.0.0.1:5001/a/b"] {
        let found = pod(image);
        assert!(found.is_closed() && found.notes.len() == 1, "{image}: {found:?}");
    }
    assert!(!pod("localhost:5002/app:1").is_closed());
    assert!(pod("x/y:1\n    imagePullPolicy: Never").is_closed());
}

#[test]
fn manifests_that_are_none_are_told() {
    let found = closure(b"apiVersion: v1\nkind: Pod\nx: [\n");
    assert_eq!((found.broken.len(), found.broken[0].manifest.as_str()), (1, "m"));
    assert!(found.require().unwrap_err().to_string().contains("manifest m (m.yaml), line"), "{found:?}");
    let binary = closure(b"a\n\xff\xfe");
    assert_eq!((binary.broken[0].line, binary.broken[0].why.as_str()), (2, "not UTF-8 text"));
}

#[test]
fn what_is_odd_is_told_and_refuses_nothing() {
    let found = closure(b"apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - image: other:9\n    image: web:1\n");
    assert!(found.is_closed() && found.images == 1, "{found:?}");
    assert_eq!(
        found.remarks[0].line(),
        "manifest m (m.yaml), line 6: key `image` is twice in one mapping: the last one counts, as with kubectl"
    );
    let hint = closure(b"a: [").require().unwrap_err().hint().unwrap();
    assert!(!hint.contains("kubectl"), "{hint}");
}
