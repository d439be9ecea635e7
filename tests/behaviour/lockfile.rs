//! Locks between processes, taken at once and awaited.
use crate::support::{Reports, watch};
use std::{
    cell::RefCell,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{self, Command},
    rc::Rc,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use twistor::{
    defer::DeferredFilesystemLock,
    error::{AlreadyTryingToLockError, CancelledError, TimeoutError, ValueError},
    lockfile::{FilesystemLock, LockSystem, is_locked},
    task::Clock,
};

/// A folder for one test, removed afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("twistor-locks-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The id of a process that has exited.
fn dead_process() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Returns a lock that another object holds, one that waits for it, and the clock.
fn held(folder: &Folder) -> (FilesystemLock, DeferredFilesystemLock, Clock) {
    let mut other = FilesystemLock::new(folder.lock());
    assert!(other.lock().unwrap());
    let clock = Clock::new();
    (other, DeferredFilesystemLock::new(folder.lock(), clock.clone()), clock)
}

#[test]
fn c_052_a_lock_that_nobody_holds_is_acquired_at_once() {
    let (folder, clock) = (Folder::new(), Clock::new());
    let lock = DeferredFilesystemLock::new(folder.lock(), clock.clone());
    let held = watch(lock.defer_until_locked().add_timeout(seconds(1), &clock)).value();
    assert!(lock.is_held() && lock.is_clean());
    assert!(clock.delayed_calls().is_empty());
    drop(held);
    assert!(!lock.is_held() && !folder.lock().exists());
}

#[test]
fn c_053_a_wait_for_a_held_lock_fails_when_the_limit_passes() {
    let folder = Folder::new();
    let (_other, lock, clock) = held(&folder);
    let result = watch(lock.defer_until_locked().add_timeout(Duration::from_millis(5500), &clock));
    clock.pump([seconds(1); 5]);
    assert!(result.is_pending());
    clock.advance(seconds(1));
    assert!(result.failure().check::<TimeoutError>());
    assert!(clock.delayed_calls().is_empty() && !lock.is_held());
}

#[test]
fn c_054_a_lock_that_is_released_is_acquired_at_the_next_try() {
    let folder = Folder::new();
    let (mut other, lock, clock) = held(&folder);
    let result = watch(lock.defer_until_locked().add_timeout(seconds(10), &clock));
    other.unlock().unwrap();
    assert!(result.is_pending());
    clock.advance(seconds(1));
    let _held = result.value();
    assert!(lock.is_held() && clock.delayed_calls().is_empty());
}

#[test]
fn c_056_one_object_waits_once_at_a_time() {
    let folder = Folder::new();
    let (mut other, lock, clock) = held(&folder);
    let first = watch(lock.defer_until_locked());
    let second = watch(lock.defer_until_locked()).failure();
    assert!(second.check::<AlreadyTryingToLockError>());
    assert!(second.to_string().contains(folder.lock().to_str().unwrap()), "{second}");
    other.unlock().unwrap();
    clock.advance(seconds(1));
    let _held = first.value();
}

#[test]
fn c_057_one_object_waits_again_after_a_release() {
    let folder = Folder::new();
    let lock = DeferredFilesystemLock::new(folder.lock(), Clock::new());
    for _ in 0..3 {
        let held = watch(lock.defer_until_locked()).value();
        assert!(lock.is_held());
        held.release().unwrap();
        assert!(!lock.is_held());
    }
}

#[test]
fn c_058_c_059_cancelling_the_wait_ends_the_tries_and_the_limit() {
    for limited in [false, true] {
        let folder = Folder::new();
        let (mut other, lock, clock) = held(&folder);
        let waiting = lock.defer_until_locked();
        let waiting = if limited { waiting.add_timeout(seconds(10), &clock) } else { waiting };
        assert_eq!(clock.delayed_calls().len(), 1 + usize::from(limited));
        let canceller = waiting.canceller();
        let result = watch(waiting);
        canceller.cancel();
        assert!(result.failure().check::<CancelledError>());
        assert!(clock.delayed_calls().is_empty());
        other.unlock().unwrap();
        clock.advance(seconds(10));
        assert!(!lock.is_held());
        let _held = watch(lock.defer_until_locked()).value();
    }
}

#[test]
fn the_tries_come_at_the_interval_and_an_error_ends_the_wait() {
    let folder = Folder::new();
    let (mut other, lock, clock) = held(&folder);
    lock.set_interval(Duration::from_millis(100));
    let result = watch(lock.defer_until_locked());
    assert_eq!(clock.delayed_calls()[0].time(), Duration::from_millis(100));
    other.unlock().unwrap();
    fs::write(folder.lock(), "no link").unwrap();
    clock.advance(Duration::from_millis(100));
    assert!(result.failure().check::<io::Error>());
    assert!(clock.delayed_calls().is_empty());
}

#[test]
fn a_wait_that_is_dropped_has_the_lock_and_lets_it_go() {
    let folder = Folder::new();
    let (mut other, lock, clock) = held(&folder);
    lock.defer_until_locked().detach();
    other.unlock().unwrap();
    clock.advance(seconds(1));
    assert!(!lock.is_held() && !folder.lock().exists());
}

#[test]
fn a_lock_taken_away_from_its_holder_is_reported_at_the_release() {
    let folder = Folder::new();
    let reports = Reports::new();
    let lock = DeferredFilesystemLock::new(folder.lock(), Clock::new());
    let held = watch(lock.defer_until_locked()).value();
    fs::remove_file(folder.lock()).unwrap();
    drop(held);
    let seen = reports.take();
    assert!(seen.len() == 1 && seen[0].contains("release of <DeferredFilesystemLock"), "{seen:?}");
}

#[test]
fn c_060_c_061_a_lock_is_taken_cleanly_and_after_a_release_by_another() {
    let folder = Folder::new();
    let mut lock = FilesystemLock::new(folder.lock());
    assert!(!lock.is_held());
    assert!(lock.lock().unwrap());
    assert!(lock.is_held() && lock.is_clean());
    assert_eq!(fs::read_link(folder.lock()).unwrap(), Path::new(&process::id().to_string()));
    lock.unlock().unwrap();
    assert!(!lock.is_held());
    let mut other = FilesystemLock::new(folder.lock());
    assert!(other.lock().unwrap() && other.is_clean() && other.is_held());
}

#[test]
fn c_062_a_held_lock_is_not_acquired() {
    let folder = Folder::new();
    let (_other, _, _) = held(&folder);
    let mut lock = FilesystemLock::new(folder.lock());
    assert!(!lock.lock().unwrap() && !lock.is_held());
}

#[test]
fn c_063_a_lock_left_by_a_process_that_has_died_is_taken_over() {
    let folder = Folder::new();
    symlink(dead_process().to_string(), folder.lock()).unwrap();
    let mut lock = FilesystemLock::new(folder.lock());
    assert!(lock.lock().unwrap() && lock.is_held() && !lock.is_clean());
    assert_eq!(fs::read_link(folder.lock()).unwrap(), Path::new(&process::id().to_string()));
}

/// A step that a lock takes, and the system's answer.
type Step = (&'static str, io::Result<String>);

/// A system in which other processes act between our steps.
#[derive(Clone)]
struct Scripted(Rc<RefCell<Vec<Step>>>);

impl Scripted {
    fn new(steps: Vec<Step>) -> Self {
        Self(Rc::new(RefCell::new(steps)))
    }

    fn step(&self, what: &str) -> io::Result<String> {
        let (expected, result) = self.0.borrow_mut().remove(0);
        assert_eq!(what, expected);
        result
    }

    /// Returns a lock in this system, the result of taking it, and the steps that were taken.
    fn lock(self) -> (FilesystemLock, io::Result<bool>) {
        let left = self.0.clone();
        let mut lock = FilesystemLock::with_system("/lock", self);
        let taken = lock.lock();
        assert!(left.borrow().is_empty(), "steps were left out");
        (lock, taken)
    }
}

impl LockSystem for Scripted {
    fn link(&self, _target: &str, _path: &Path) -> io::Result<()> {
        self.step("link").map(drop)
    }

    fn read(&self, _path: &Path) -> io::Result<String> {
        self.step("read")
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        self.step("remove").map(drop)
    }

    fn is_alive(&self, _id: u32) -> io::Result<bool> {
        self.step("alive").map(|answer| answer == "yes")
    }
}

fn done(what: &'static str) -> Step {
    (what, Ok(String::new()))
}

fn says(what: &'static str, answer: &str) -> Step {
    (what, Ok(answer.to_owned()))
}

fn fails(what: &'static str, kind: io::ErrorKind) -> Step {
    (what, Err(kind.into()))
}

#[test]
fn c_064_a_file_that_goes_before_its_owner_is_read_was_released_in_order() {
    use io::ErrorKind::{AlreadyExists, NotFound};
    let system =
        Scripted::new(vec![fails("link", AlreadyExists), fails("read", NotFound), done("link")]);
    let (lock, taken) = system.lock();
    assert!(taken.unwrap() && lock.is_held() && lock.is_clean());
}

#[test]
fn c_065_a_stale_file_that_another_process_removes_first_counts_as_clean() {
    use io::ErrorKind::{AlreadyExists, NotFound};
    let system = Scripted::new(vec![
        fails("link", AlreadyExists),
        says("read", "77"),
        says("alive", "no"),
        says("read", "77"),
        fails("remove", NotFound),
        done("link"),
    ]);
    let (lock, taken) = system.lock();
    assert!(taken.unwrap() && lock.is_held() && lock.is_clean());
}

#[test]
fn a_stale_file_that_another_process_has_taken_over_is_left_to_it() {
    let exists = || fails("link", io::ErrorKind::AlreadyExists);
    let system = Scripted::new(vec![
        exists(),
        says("read", "77"),
        says("alive", "no"),
        says("read", "78"),
        exists(),
        says("read", "78"),
        says("alive", "yes"),
    ]);
    let (lock, taken) = system.lock();
    assert!(!taken.unwrap() && !lock.is_held());
}

#[test]
fn c_066_unlocking_another_process_s_file_is_a_value_error_and_asking_takes_nothing() {
    let folder = Folder::new();
    let mut lock = FilesystemLock::new(folder.lock());
    assert!(!is_locked(folder.lock()).unwrap());
    assert!(lock.lock().unwrap());
    assert!(is_locked(folder.lock()).unwrap());
    fs::remove_file(folder.lock()).unwrap();
    symlink(dead_process().to_string(), folder.lock()).unwrap();
    assert!(!is_locked(folder.lock()).unwrap());
    assert!(folder.lock().is_symlink(), "asking does not tidy up");
    let failure = lock.unlock().unwrap_err();
    assert!(failure.check::<ValueError>(), "{failure}");
    assert!(
        failure.to_string().contains(&format!("this is process {}", process::id())),
        "{failure}"
    );
}

#[test]
fn c_067_a_held_lock_stays_held_where_processes_cannot_be_checked() {
    let system = Scripted::new(vec![
        fails("link", io::ErrorKind::AlreadyExists),
        says("read", "4294967295"),
        says("alive", "yes"),
    ]);
    let (lock, taken) = system.lock();
    assert!(!taken.unwrap() && !lock.is_held());
    // the machine's own answers: an existing link, a missing one, a running process (init, even
    // without the right to signal it)
    let folder = Folder::new();
    symlink("1", folder.lock()).unwrap();
    assert!(!FilesystemLock::new(folder.lock()).lock().unwrap());
    assert!(!is_locked(folder.0.join("missing")).unwrap());
}

#[test]
fn c_069_other_errors_go_to_the_caller_and_the_lock_is_not_held() {
    use io::ErrorKind::{AlreadyExists, Interrupted, NotFound, PermissionDenied};
    let exists = || fails("link", AlreadyExists);
    let scripts = [
        vec![fails("link", PermissionDenied)],
        vec![exists(), fails("read", PermissionDenied)],
        vec![exists(), says("read", "77"), fails("alive", PermissionDenied)],
        vec![exists(), says("read", "77"), says("alive", "no"), fails("read", PermissionDenied)],
        vec![
            exists(),
            says("read", "77"),
            says("alive", "no"),
            says("read", "77"),
            fails("remove", PermissionDenied),
        ],
    ];
    for script in scripts {
        let (lock, taken) = Scripted::new(script).lock();
        assert_eq!(taken.unwrap_err().kind(), PermissionDenied);
        assert!(!lock.is_held());
    }
    let (_, taken) = Scripted::new(vec![fails("link", Interrupted)]).lock();
    assert_eq!(taken.unwrap_err().kind(), Interrupted);
    // a folder that does not exist
    let folder = Folder::new();
    let mut lock = FilesystemLock::new(folder.0.join("missing/lock"));
    assert_eq!(lock.lock().unwrap_err().kind(), NotFound);
    // a link that does not contain a process id
    symlink("somebody", folder.lock()).unwrap();
    let error = FilesystemLock::new(folder.lock()).lock().unwrap_err();
    assert!(
        error.to_string().ends_with("does not contain a process id: it points to `somebody`"),
        "{error}"
    );
}

// Kind: an id is not a process. Containers start each time with the same ids.
#[test]
fn a_lock_that_names_this_process_but_is_not_held_by_it_is_taken_over() {
    let folder = Folder::new();
    let path = folder.lock();
    symlink(process::id().to_string(), &path).unwrap();
    assert!(!is_locked(&path).unwrap());
    let mut lock = FilesystemLock::new(&path);
    assert!(lock.lock().unwrap());
    assert!(!lock.is_clean());
    // held now, by whatever spelling of the path it is asked for
    let other = path.parent().unwrap().join(".").join("lock");
    assert!(is_locked(&other).unwrap() && !FilesystemLock::new(&other).lock().unwrap());
    lock.unlock().unwrap();
    assert!(FilesystemLock::new(&other).lock().unwrap());
}
