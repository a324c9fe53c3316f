//! A client of other authors writes a file and reads it; a call by hand asks for the free pages.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use nfs3_client::Nfs3ConnectionBuilder;
use nfs3_client::nfs3_types::nfs3::{
    CREATE3args, READ3args, WRITE3args, createhow3, diropargs3, filename3, sattr3, stable_how,
};
use nfs3_client::nfs3_types::xdr_codec::Opaque;
use nfs3_client::tokio::TokioConnector;

#[test]
fn a_client_reads_what_it_wrote() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let dir = fs::canonicalize(scratch.path())?.join("export");
    fs::create_dir(&dir)?;
    // Root's calls are made as the anonymous user.
    fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    let mut server = Command::new(env!("CARGO_BIN_EXE_guide-files"))
        .args([dir.as_os_str(), scratch.path().join("key").as_os_str()])
        .arg("127.0.0.1:0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = BufReader::new(server.stdout.take().expect("piped"));
    let mut line = String::new();
    output.read_line(&mut line)?;
    let port = line.split("mountport=").nth(1).and_then(|rest| rest.split(',').next());
    let port: u16 = port.ok_or(format!("no port in '{line}'"))?.parse()?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(write_and_read(port, dir.to_str().ok_or("the path is not UTF-8")?))?;
    assert_eq!(fs::read(dir.join("greeting"))?, b"hello");
    assert!(free_pages(port)? > 0);

    drop(server.stdin.take()); // the server stops when its standard input ends
    let mut rest = String::new();
    output.read_to_string(&mut rest)?;
    assert!(server.wait()?.success(), "{rest}");
    assert!(rest.contains("pages are free again"), "{rest}");
    Ok(())
}

async fn write_and_read(port: u16, dir: &str) -> Result<(), Box<dyn Error>> {
    let mut client = Nfs3ConnectionBuilder::new(TokioConnector, "127.0.0.1", dir)
        .connect_from_privileged_port(false)
        .mount_port(port)
        .nfs3_port(port)
        .mount()
        .await?;
    let where_ =
        diropargs3 { dir: client.root_nfs_fh3(), name: filename3(Opaque::borrowed(b"greeting")) };
    let how = createhow3::UNCHECKED(sattr3::default());
    let created = client.create(&CREATE3args { where_, how }).await?.unwrap();
    let file = created.obj.unwrap();
    let data = Opaque::borrowed(b"hello".as_slice());
    let stable = stable_how::FILE_SYNC;
    let write = WRITE3args { file: file.clone(), offset: 0, count: 5, stable, data };
    assert_eq!(client.write(&write).await?.unwrap().count, 5);
    let read = client.read(&READ3args { file, offset: 0, count: 100 }).await?.unwrap();
    assert_eq!(read.data.as_ref(), b"hello");
    client.unmount().await?;
    Ok(())
}

/// Calls procedure 1 of the program `Status` (RFC 5531): a record mark, the call, no credentials.
fn free_pages(port: u16) -> Result<u64, Box<dyn Error>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let call = [0x8000_0000 | 40, 7, 0, 2, 0x2000_0000, 1, 1, 0, 0, 0, 0_u32];
    stream.write_all(&call.map(u32::to_be_bytes).concat())?;
    // A record mark, six words of header, and the number.
    let mut reply = [0; 4 + 24 + 8];
    stream.read_exact(&mut reply)?;
    Ok(u64::from_be_bytes(reply[28..].try_into()?))
}
