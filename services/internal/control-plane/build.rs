//! New migration files must reach the binary; cargo does not see them by itself.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
