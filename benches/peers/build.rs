//! Builds the calls to DPDK, which are inline functions of C, where the feature `dpdk` is on.

fn main() {
    #[cfg(feature = "dpdk")]
    dpdk();
}

#[cfg(feature = "dpdk")]
fn dpdk() {
    println!("cargo::rerun-if-changed=src/raw/dpdk.c");
    let found = pkg_config::Config::new().atleast_version("22.11").probe("libdpdk");
    let library = found.expect("libdpdk, which pkg-config should find (Debian: libdpdk-dev)");
    let mut build = cc::Build::new();
    build.file("src/raw/dpdk.c").flag("-march=native").includes(library.include_paths);
    build.compile("pagemill_peers_dpdk");
}
