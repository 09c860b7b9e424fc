//! Generates the Rust of `crates/dapr/src/proto/*.proto`, without `protoc`, and the definitions for gRPC's reflection. The result is in
//! the repository, so that a build needs neither this nor its dependencies. `FOREBAY_BLESS=1 cargo test -p forebay-proto`
//! regenerates it.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use prost::Message as _;

    const PROTO: [&str; 2] = ["dapr.proto", "components.proto"];
    /// The file for reflection of the second definition alone.
    const REFLECTED: &str = "components.bin";

    #[test]
    fn generated_code_is_up_to_date() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/dapr/src/proto");
        let set = protox::compile(PROTO, [&dir]).expect("definitions that are right");
        let reflected = protox::compile([PROTO[1]], [&dir]).expect("definitions that are right");
        let out = tempfile::tempdir().expect("a directory");
        fs::write(out.path().join(REFLECTED), reflected.encode_to_vec()).expect("written");
        let config = tonic_prost_build::configure().build_transport(false).emit_rerun_if_changed(false);
        config.out_dir(out.path()).compile_fds(set).expect("code");
        for made in fs::read_dir(out.path()).expect("readable") {
            let made = made.expect("a file");
            let (new, known) = (fs::read(made.path()).expect("readable"), dir.join(made.file_name()));
            if std::env::var_os("FOREBAY_BLESS").is_some() {
                fs::write(&known, new).expect("written");
            } else {
                let same = fs::read(&known).is_ok_and(|known| known == new);
                assert!(same, "{} differs: FOREBAY_BLESS=1 cargo test -p forebay-proto", known.display());
            }
        }
    }
}
