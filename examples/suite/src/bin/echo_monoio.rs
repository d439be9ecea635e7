//! monoio (io_uring when the kernel has it, else epoll) echo.
use monoio::{
    io::{AsyncReadRent, AsyncWriteRentExt},
    net::TcpListener,
};
#[monoio::main(driver = "fusion")]
async fn main() {
    let l = TcpListener::bind(std::env::args().nth(1).unwrap()).unwrap();
    println!("listening");
    loop {
        let Ok((mut s, _)) = l.accept().await else { continue };
        s.set_nodelay(true).ok();
        monoio::spawn(async move {
            let mut buf = Vec::with_capacity(16384);
            loop {
                let (r, b) = s.read(buf).await;
                if !matches!(r, Ok(n) if n > 0) {
                    return;
                }
                let (r, mut b) = s.write_all(b).await;
                if r.is_err() {
                    return;
                }
                b.clear();
                buf = b;
            }
        });
    }
}
