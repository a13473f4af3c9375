//! spike
use tachograph::*;
fn main() {
    tracing_subscriber::fmt().init();
    let vitals = vitals::Vitals::default();
    let (object, ring, counts) =
        attach::object::Object::load(attach::object::Config { ring_bytes: 16 << 20, keep_losses: false }).unwrap();
    let mut attach = attach::Attach::new(object, 16 << 20);
    println!("refused {:?}", attach.refused().iter().map(|s| s.what.clone()).collect::<Vec<_>>()); for s in attach.refused() { println!("SKIP {} ...{}", s.what, s.why.chars().rev().take(2500).collect::<String>().chars().rev().collect::<String>().replace("\\n","\n")); }
    let mut ring = ring::read::Ring::new(ring);
    let mut decoder = ring::decode::Decoder::new(65536);
    let mut discover = discover::Discover::new(discover::Config::default(), ident::Pid(std::process::id()));
    let mut last = std::time::Instant::now() - std::time::Duration::from_secs(10);
    loop {
        if last.elapsed().as_millis() > 1000 {
            last = std::time::Instant::now();
            for c in discover.pass() {
                if let Some(a) = attach.apply(c, &vitals) {
                    println!("{a:?}");
                }
            }
            println!("hits {}", counts.get(agent_ebpf::map::count::HITS));
        }
        ring.drain(10000, |r| {
            decoder.push(r, &vitals, |e| match e {
                ring::Event::Data { conn, way, at, bytes, missing } => println!(
                    "{} {:?} fd{} missing {} {}: {}",
                    at.0,
                    way,
                    conn.fd,
                    missing,
                    bytes.len(),
                    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).escape_debug()
                ),
                ring::Event::Frame { tid, way, at, bytes, offset, total, .. } => println!(
                    "{} frame {:?} tid {} off {} total {}: {}",
                    at.0,
                    way,
                    tid,
                    offset,
                    total,
                    String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).escape_debug()
                ),
                e => println!("{e:?}"),
            })
        });
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
