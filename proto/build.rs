//! Generates the gRPC types; no `protoc` needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=callboard");
    let files = protox::compile(
        ["callboard/v1/internal.proto", "callboard/v1/runner.proto", "callboard/v1/admin.proto"],
        ["."],
    )?;
    tonic_prost_build::configure()
        // The CLI prints admin messages as JSON and YAML.
        .type_attribute(".callboard.admin.v1", "#[derive(serde::Serialize)]")
        .btree_map(".callboard.admin.v1")
        // A delivery's body is large: it is handed on, not copied.
        .bytes(".callboard.v1.StoreDeliveryRequest.body")
        .compile_fds(files)?;
    Ok(())
}
