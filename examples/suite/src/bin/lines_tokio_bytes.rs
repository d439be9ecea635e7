//! Lines on tokio with BytesMut and memchr, written by hand: one write for the lines of one read.
use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let l = TcpListener::bind(std::env::args().nth(1).unwrap()).await.unwrap();
    loop {
        let Ok((mut s, _)) = l.accept().await else { continue };
        s.set_nodelay(true).ok();
        tokio::spawn(async move {
            let mut b = BytesMut::with_capacity(16384);
            let mut out = Vec::with_capacity(16384);
            loop {
                match s.read_buf(&mut b).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
                while let Some(at) = memchr::memchr(b'\n', &b) {
                    let line = &b[..at];
                    let line = line.strip_suffix(b"\r").unwrap_or(line);
                    out.extend_from_slice(line);
                    out.extend_from_slice(b"\r\n");
                    b.advance(at + 1);
                }
                if !out.is_empty() {
                    if s.write_all(&out).await.is_err() {
                        return;
                    }
                    out.clear();
                }
                if b.is_empty() {
                    b.clear();
                }
                b.reserve(1024);
            }
        });
    }
}
