//! Processes that are killed while they write, and one that reads meanwhile: no entry is ever seen half written.

use super::trust::age;
use super::{Folder, Store, artefact, ask, statistics};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const FOLDER: &str = "RINGWORK_TEST_KILL_FOLDER";
const CHILD: &str = "compile::cache::tests::kill::writes_until_it_is_killed";
const NUMBERS: u64 = 24;
const KILLS: u64 = 200;
/// Less than all artefacts have together, so that writers evict, too.
const CAPACITY: u64 = 1 << 20;

/// Most are small, some take several writes of the system's.
fn size(number: u64) -> usize {
    if number.is_multiple_of(4) { 150_000 } else { 1000 * number as usize }
}

fn scramble(number: u64) -> u64 {
    let bytes = artefact(number, 8);
    bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// A process that ends with the test, also if that panics.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        // Dead already if all went well; its id is not anybody else's before it is waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "the child of the test below, which starts and kills it"]
fn writes_until_it_is_killed() {
    let folder = std::env::var_os(FOLDER).expect("only the test below runs this");
    let store = Store::new(Ok(folder.into()), CAPACITY);
    println!("\nready");
    let begun = Instant::now();
    for step in u64::from(std::process::id()).. {
        // For the case that the test has not lived to kill it.
        if begun.elapsed() > Duration::from_secs(30) {
            break;
        }
        let number = scramble(step) % NUMBERS;
        ask(&store, number, size(number));
        // So that there is always something to write.
        if step.is_multiple_of(50) {
            store.clear().expect("the folder is the test's own");
        }
    }
}

#[test]
fn a_process_killed_while_it_writes_leaves_nothing_wrong_behind() {
    let folder = Folder::new();
    let reader = folder.store(CAPACITY);
    let begun = Instant::now();
    let (mut kills, mut found) = (0, 0);
    while kills < KILLS && begun.elapsed() < Duration::from_secs(15) {
        let mut child = Child(
            Command::new(std::env::current_exe().expect("this is a program"))
                .args(["--exact", CHILD, "--ignored", "--nocapture", "--test-threads", "1"])
                .env(FOLDER, &folder.0)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("it has run before"),
        );
        let mut lines = BufReader::new(child.0.stdout.take().expect("it is piped")).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line == "ready"));
        let end = Instant::now() + Duration::from_micros(scramble(kills) % 15_000);
        while Instant::now() < end || !ready {
            // Checks what it gets, and keeps nothing itself.
            for number in 0..NUMBERS {
                let wanted = artefact(number, size(number));
                found += u32::from(
                    reader.look(&folder.0, &super::key(number), |bytes| Some(bytes.to_vec())).is_some_and(
                        |bytes| {
                            assert!(bytes == wanted, "artefact {number} is another one");
                            true
                        },
                    ),
                );
            }
        }
        child.0.kill().expect("it is ours");
        let end = child.0.wait().expect("it is ours");
        assert!(ready && !end.success(), "the child ended by itself: {end}");
        kills += 1;
    }
    let left_over = || folder.names().into_iter().filter(|name| name.ends_with(".tmp"));
    println!("{kills} kills, {} of them in a write, {found} entries read", left_over().count());
    assert!(kills >= 20, "only {kills} kills in {:?}", begun.elapsed());
    assert!(found > 0, "no entry was ever there");
    let told = statistics(&reader);
    assert_eq!(told.disk_rejected, 0, "a half-written entry was seen");
    // What the dead left behind goes with the next count, once it is a little old.
    assert!(kills < KILLS || left_over().count() > 0, "nobody was killed in a write");
    left_over().for_each(|name| age(&folder.0.join(name)));
    assert!(ask(&folder.store(CAPACITY), NUMBERS, 10));
    assert!(folder.names().iter().all(|name| name.ends_with(".entry")), "{:?}", folder.names());
    assert!(folder.bytes() <= CAPACITY, "{}", folder.bytes());
}
