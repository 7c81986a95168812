//! The quickstart lab's own files: they parse, and name each other rightly.

use std::path::{Path, PathBuf};

use labimg::model::image_def::ImageDef;
use labimg::model::profile::parse;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs_err::read_to_string(path).unwrap()
}

#[test]
fn the_images_are_what_the_profile_and_the_compose_file_say() {
    let path = root().join("profiles/quickstart.toml");
    let name = path.display().to_string();
    let loaded = parse(&name, &read(&path), &mut |p| fs_err::read_to_string(p).map_err(|e| e.to_string())).unwrap();
    let profile = loaded.profile;
    let compose = read(&root().join("profiles/quickstart/compose.yaml"));
    let sets: Vec<&str> = profile.wheel.iter().map(|set| set.name.as_str()).collect();
    assert_eq!(profile.image.len(), 2);
    for image in &profile.image {
        let short = image.reference.repository.rsplit('/').next().unwrap();
        assert!(compose.contains(&format!("image: quickstart.lab/{short}:1.0")), "{compose}");
        let folder = root().join(format!("images/quickstart-{short}"));
        let def: ImageDef = toml::from_str(&read(&folder.join("image.toml"))).unwrap();
        assert!(profile.debian.contains_key(def.debian.as_ref().unwrap().as_str()));
        assert!(def.wheels.iter().all(|name| sets.contains(&name.as_str())));
        for file in &def.file {
            let from = file.from.as_ref().unwrap();
            assert!(folder.join(from.as_str()).is_file(), "{}", from.as_str());
            assert!(file.to.starts_with("/app/"));
        }
        let users: Vec<&str> = def.user.iter().map(|user| user.name.as_str()).collect();
        assert!(users.contains(&def.config.user.as_ref().unwrap().as_str()));
        let program = def.config.entrypoint.last().unwrap();
        assert!(def.file.iter().any(|file| file.to.as_str() == program.as_str()), "{}", program.as_str());
    }
}
