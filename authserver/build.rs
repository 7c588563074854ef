//! Tells cargo that the migrations, which are compiled into the program, are part of it.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
