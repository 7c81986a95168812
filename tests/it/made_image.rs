//! An `image.toml`, its files and its wheels with something wrong: the exit code, what labimg says, and that nothing stays.

use crate::support::Makings;
use crate::support::makings::{base_with, ends_well, program};
use crate::support::upstream::Broken;

/// Builds with `from` in `image.toml` replaced by `to`; the error must be `what`, the hint `hint`.
#[track_caller]
fn refused(made: &Makings, image: &str, (from, to): (&str, &str), what: &str, hint: &str) {
    assert!(image.contains(from), "{from}");
    made.world.write("app/image.toml", image.replacen(from, to, 1));
    let _ = std::fs::remove_file(made.world.path("made.lock"));
    let run = made.build().ends(1).says(&[what]);
    assert!(hint.is_empty() || run.err.ends_with(&format!("\nhint: {hint}\n")), "{hint}\n{}", run.err);
    assert!(!made.world.path("made.labimg").exists(), "{to}");
    assert_eq!(made.leftovers(), [""; 0]);
}

#[test]
fn an_image_toml_that_is_wrong() {
    let made = Makings::small();
    let image = made.world.text("app/image.toml");
    let owner = "owner = \"web\"";
    for (change, what, hint) in [
        (
            ("mode = \"0755\"", "mod = \"0755\""),
            "error: unknown key `mod`\n  --> app/image.toml:16:1\n",
            "did you mean `mode`?",
        ),
        (
            ("packages =", "package ="),
            "error: unknown key `package`\n --> app/image.toml:3:1\n",
            "did you mean `packages`?",
        ),
        (
            ("mode = \"0755\"", "mode = \"0999\""),
            "error: `0999` is not an octal mode\n  --> app/image.toml:16:8\n",
            "as `0644` or `0755`",
        ),
        (
            ("schema = 1", "schema = 2"),
            "error: schema 2 is not one this labimg reads (it reads 1)\n --> app/image.toml:1:10\n",
            "",
        ),
        (
            ("[config]", "[config"),
            "error: not valid TOML: unclosed table, expected `]`\n  --> app/image.toml:22:8\n",
            "",
        ),
        (
            ("\"bookworm\"", "\"bokworm\""),
            "no [debian] table in the profile called `bokworm`\n --> app/image.toml:2:10\n",
            "did you mean `bookworm`?",
        ),
        (
            ("\"/srv/app.py\"", "\"srv/app.py\""),
            "error: `srv/app.py` is not an absolute path in the image\n",
            "`/srv/app.py`",
        ),
        (
            ("\"/srv/app.py\"", "\"../x\""),
            "error: `../x` is not an absolute path in the image\n",
            "write it from the root of the image on, as `/srv/app`",
        ),
        (("\"/srv/main\"", "\"/srv/app.py\""), "error: `/srv/app.py` is made twice\n  --> app/image.toml:19:8\n", ""),
        (
            ("\"app.py\"", "\"gone.py\""),
            "error: can not take `./app/gone.py`: it is not there\n  --> app/image.toml:14:8\n",
            "",
        ),
        (
            ("\"app.py\"", "\"step:page/x\""),
            "error: there is no [[step]] called `page` in the profile\n  --> app/image.toml:14:8\n",
            "",
        ),
        (("[config]", "[config]\nstop-signal = \"SIGNONE\""), "error: `SIGNONE` is not a signal\n", "as `SIGTERM`"),
        ((owner, "owner = \"web:web:web\""), "web:web:web", ""),
    ] {
        refused(&made, &image, change, what, hint);
    }
    std::fs::remove_file(made.world.path("app/image.toml")).unwrap();
    made.build().ends(1).says(&["error: there is no file `app/image.toml`\n --> made.toml:9:9\n"]);
    assert!(!made.world.store().exists(), "nothing of that was worth a look at the archive");
}

#[test]
fn files_and_users_that_do_not_fit_the_packages() {
    let made = Makings::small();
    let image = made.world.text("app/image.toml");
    let files = |text: &str| format!("error: image made.lab/app:1 linux/amd64 files failed: {text}");
    let other = "give it another name or id";
    for (change, what, hint) in [
        (
            ("name = \"web\"", "name = \"daemon\""),
            "user `daemon` (1000) of image.toml clashes with user `daemon` (1) of the image\n",
            other,
        ),
        (
            ("uid = 1000", "uid = 1"),
            "user `web` (1) of image.toml clashes with user `daemon` (1) of the image\n",
            other,
        ),
        (
            ("owner = \"web\"", "owner = \"daemons\""),
            "directory `/var/lib/web`: the image has no user called `daemons`\n",
            "did you mean `daemon`?",
        ),
        (
            ("owner = \"web\"", "owner = \"www-data\""),
            "directory `/var/lib/web`: the image has no user called `www-data`\n",
            "add a `[[user]]` called `www-data`, or give a number",
        ),
        (
            ("\"/srv/app.py\"", "\"/etc/base.conf/x\""),
            "image.toml can not put `/etc/base.conf/x` into the image: `/etc/base.conf` is no directory\n",
            "choose another path, or leave the package that brings it",
        ),
    ] {
        refused(&made, &image, change, &files(what), hint);
    }
}

#[test]
fn images_that_could_not_start() {
    let made = Makings::small();
    let image = made.world.text("app/image.toml");
    made.world.write("app/foreign", program("arm64"));
    made.world.write("app/lost", "#!/opt/none -x\n");
    let hint = "name a program that a package, a wheel or a `[[file]]` of mode 0755 brings";
    let main = "entrypoint = [\"/srv/main\"]";
    for (change, program, why) in [
        ((main, "entrypoint = [\"/srv/mian\"]"), "/srv/mian", "there is no `/srv/mian` in it\n"),
        ((main, "entrypoint = [\"/etc/base.conf\"]"), "/etc/base.conf", "`/etc/base.conf` is not executable\n"),
        ((main, "entrypoint = [\"gunicorn\"]"), "gunicorn", "there is no `gunicorn` in its PATH (/usr/local/sbin:"),
        (("\"app.py\"", "\"foreign\""), "/srv/main", "`/srv/main` is a program for linux/arm64\n"),
        (
            ("\"app.py\"", "\"lost\""),
            "/srv/main",
            "`/srv/main` is a script (`#!/opt/none -x`): there is no `/opt/none` in it\n",
        ),
    ] {
        let start = "error: image made.lab/app:1 linux/amd64 manifest failed: the image's entrypoint";
        refused(&made, &image, change, &format!("{start} `{program}` can not run on linux/amd64: {why}"), hint);
    }
    let nobody = "manifest failed: the user it runs as: the image has no user called `nobody`\n";
    let add = "add a `[[user]]` called `nobody`, or give a number";
    refused(&made, &image, ("user = \"web\"", "user = \"nobody\""), nobody, add);
    made.world.write("app/image.toml", &image);
    made.run(&["lock", "made.toml"]).ends(0);
    made.build().ends(0);
}

#[test]
#[cfg(target_arch = "x86_64")] // The step's shell is a program for it.
fn a_file_that_its_step_does_not_leave() {
    let mut made = Makings::small();
    let mut base = base_with("amd64", &ends_well());
    base.link("bin", "usr/bin");
    made.add(base);
    made.serve();
    let profile = made.world.text("made.toml");
    let step = "[toolchain]\ndebian = \"bookworm\"\npackages = []\n\n[[step]]\nname = \"page\"\nrun = \"true\"\n";
    made.world.write("made.toml", format!("{profile}\n{step}"));
    let image = made.world.text("app/image.toml");
    refused(
        &made,
        &image,
        ("\"app.py\"", "\"step:page/index.html\""),
        "files failed: nothing is at `step:page/index.html`, which file `/srv/app.py` is to come from\n",
        "`step:NAME/path` is what the step leaves at `/out/path`",
    );
    let why = made.run(&["why", "made.toml", "step page"]).ends(0);
    assert_eq!(why.out, "step page: unchanged since the last build\n");
}

#[test]
fn wheels_that_can_not_be_taken() {
    let made = Makings::new();
    made.world.edit("made.toml", "\"linux/amd64\", \"linux/arm64\"", "\"linux/amd64\"");
    made.world.edit("made.toml", "\"linux/amd64\", \"linux/arm64\"", "\"linux/amd64\"");
    let no_lock = |code: i32, texts: &[&str]| {
        made.build().ends(code).says(texts);
        assert!(!made.world.path("made.lock").exists() && !made.world.path("made.labimg").exists());
    };
    made.wheel("top-1.0-cp311-cp311-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", &[]);
    let set = ": wheels web (linux/amd64): ";
    let text = format!(
        "{set}`top` has no wheel for Python 3.11 on linux/amd64; there are wheels for cp311-cp311-manylinux2014_aarch64"
    );
    no_lock(1, &[&text, "\nhint: ask for another version, or leave the platform out of the set's `platforms`\n"]);
    made.project("top-1.0.tar.gz", b"source".to_vec());
    let text = format!(
        "{set}`top` has no wheel, only source (top-1.0.tar.gz); labimg does not build from source\nhint: ask for a version"
    );
    no_lock(1, &[&text]);
    made.wheel("top-1.0-py3-none-any.whl", &["gone"]);
    no_lock(1, &[&format!("{set}no index has a project `gone` (asked $SERVER/simple/)\nhint: is the name right?")]);
    made.wheel("top-1.0-py3-none-any.whl", &[]);
    made.upstream.spoil("/files/top-1.0-py3-none-any.whl", Broken::Bytes(b"PK".to_vec()));
    no_lock(4, &[set, "top-1.0-py3-none-any.whl", "hint: the file was replaced on the index or altered on the way"]);
    made.upstream.mend();
    made.run(&["lock", "made.toml"]).ends(0);
    made.world.empty_store();
    made.upstream.spoil("/files/top-1.0-py3-none-any.whl", Broken::Status(404));
    made.build().ends(1).says(&["top-1.0-py3-none-any.whl", "hint: "]);
    made.upstream.mend();
    made.build().ends(0);
}
