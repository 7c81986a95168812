//! The ordinary life of a lab that makes an image.

use crate::support::Makings;

#[test]
fn first() {
    let made = Makings::built();
    println!("{:?} {:?}", made.build(), made.leftovers());
    println!("{}", made.run(&["why", "made.toml"]).out);
    println!("{}", made.run(&["ls", "made.labimg"]).out);
    println!("{:#}", made.cat("made.lab/app:1"));
    panic!();
}
