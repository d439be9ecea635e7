//! Locks between processes: a lock is a file that names the process holding it.
use crate::{error::ValueError, failure::Failure};
use std::{
    collections::HashSet,
    fmt, io,
    path::{Path, PathBuf},
    process,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

/// The operating-system calls that a lock needs: links that name a process, and whether that
/// process is running.
///
/// [`FilesystemLock::new`] uses those of the machine. Other implementations serve tests, and file
/// systems without links.
pub trait LockSystem {
    /// Creates a link at `path` that points to `target`, atomically. Fails with
    /// [`io::ErrorKind::AlreadyExists`] if the path exists.
    fn link(&self, target: &str, path: &Path) -> io::Result<()>;

    /// Returns the target of the link at `path`. Fails with [`io::ErrorKind::NotFound`] if there is
    /// none.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// Removes the link at `path`. Fails with [`io::ErrorKind::NotFound`] if there is none.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Returns whether the process `id` is running. Where that cannot be known the answer is
    /// `true`, so that a held lock stays held.
    fn is_alive(&self, id: u32) -> io::Result<bool>;
}

/// The calls of this machine: symbolic links, and signal 0.
struct Machine;

impl LockSystem for Machine {
    fn link(&self, target: &str, path: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, path)
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        Ok(std::fs::read_link(path)?.to_string_lossy().into_owned())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn is_alive(&self, id: u32) -> io::Result<bool> {
        use rustix::process::{Pid, test_kill_process};
        // no process has an id that large; 0 means "my process group" to kill(2), which exists
        let Ok(id) = i32::try_from(id) else { return Ok(false) };
        let Some(pid) = Pid::from_raw(id) else { return Ok(true) };
        match test_kill_process(pid) {
            // the process exists but belongs to another user
            Ok(()) | Err(rustix::io::Errno::PERM) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }
}

/// A lock shared between processes: a symbolic link whose target is the process id of the holder,
/// as in Twisted.
///
/// A lock left behind by a dead process is taken over, also one of an earlier process with the id of
/// this one. The lock is advisory, and works between
/// processes of one machine and one namespace of process ids. Two objects for one file also exclude
/// each other within a process. To wait for a lock, see
/// [`DeferredFilesystemLock`](crate::defer::DeferredFilesystemLock).
///
/// ```
/// use twistor::lockfile::FilesystemLock;
///
/// let path = std::env::temp_dir().join(format!("twistor-doc-{}.lock", std::process::id()));
/// let mut lock = FilesystemLock::new(&path);
/// assert!(lock.lock()? && lock.is_clean());
/// assert!(!FilesystemLock::new(&path).lock()?);
/// lock.unlock()?;
/// # Ok::<(), twistor::failure::Failure>(())
/// ```
#[doc(alias = "twisted.python.lockfile")]
pub struct FilesystemLock {
    path: PathBuf,
    system: Box<dyn LockSystem>,
    locked: bool,
    clean: bool,
}

/// The holder of a lock file.
enum Holder {
    Nobody,
    Lives,
    /// A dead process, with its id as the file has it.
    Died(String),
}

impl FilesystemLock {
    /// Creates a lock on the file `path` without taking it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with_system(path, Machine)
    }

    /// Creates a lock that uses `system` to make links and to look up processes.
    pub fn with_system(path: impl Into<PathBuf>, system: impl LockSystem + 'static) -> Self {
        Self { path: path.into(), system: Box::new(system), locked: false, clean: true }
    }

    /// Takes the lock unless a running process holds it. Returns `false` if one does.
    ///
    /// # Errors
    /// Fails with the operating-system error if the file can be neither created nor read, and if
    /// the file does not contain a process id. The lock is not held then.
    pub fn lock(&mut self) -> io::Result<bool> {
        let (mut clean, name) = (true, canonical(&self.path));
        loop {
            // before the link exists, so that no other thread takes it for a stale one
            let added = held().insert(name.clone());
            let linked = self.system.link(&process::id().to_string(), &self.path);
            if linked.is_err() && added {
                held().remove(&name);
            }
            match linked {
                Ok(()) => {
                    (self.locked, self.clean) = (true, clean);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            match holder(&*self.system, &self.path)? {
                // it has been released in the meantime
                Holder::Nobody => {}
                Holder::Lives => return Ok(false),
                Holder::Died(id) => {
                    // another process may have taken the lock over since; then the file names that
                    // process
                    match self.system.read(&self.path) {
                        Ok(now) if now == id => {}
                        Ok(_) => continue,
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        Err(error) => return Err(error),
                    }
                    match self.system.remove(&self.path) {
                        Ok(()) => clean = false,
                        // another process has removed the stale file
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// Releases the lock.
    ///
    /// # Errors
    /// Fails with [`ValueError`] if the file names another process, and with the operating-system
    /// error if the file cannot be read or removed.
    pub fn unlock(&mut self) -> Result<(), Failure> {
        let id = self.system.read(&self.path)?;
        if id != process::id().to_string() {
            let text = format!(
                "`{}` is held by process {id}, and this is process {}",
                self.path.display(),
                process::id()
            );
            return Err(ValueError::with_text(text).into());
        }
        self.system.remove(&self.path)?;
        held().remove(&canonical(&self.path));
        self.locked = false;
        Ok(())
    }

    /// Returns whether this object holds the lock.
    #[doc(alias = "locked")]
    pub fn is_held(&self) -> bool {
        self.locked
    }

    /// Returns whether the previous holder released the lock; `false` if the lock was taken over
    /// from a dead process.
    #[doc(alias = "clean")]
    pub fn is_clean(&self) -> bool {
        self.clean
    }

    /// Returns the path of the lock file.
    #[doc(alias = "name")]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Debug for FilesystemLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<FilesystemLock {}, {}>",
            self.path.display(),
            if self.locked { "held" } else { "not held" }
        )
    }
}

fn holder(system: &dyn LockSystem, path: &Path) -> io::Result<Holder> {
    let id = match system.read(path) {
        Ok(id) => id,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holder::Nobody),
        Err(error) => return Err(error),
    };
    let number = id.parse().map_err(|_| {
        let text = format!(
            "lock file `{}` does not contain a process id: it points to `{id}`",
            path.display()
        );
        io::Error::new(io::ErrorKind::InvalidData, text)
    })?;
    let lives = if number == process::id() {
        held().contains(&canonical(path))
    } else {
        system.is_alive(number)?
    };
    Ok(if lives { Holder::Lives } else { Holder::Died(id) })
}

/// Returns the locks that this process holds. A file that names this process but is not among them
/// is left over from an earlier process with the same id, which containers have often.
fn held() -> MutexGuard<'static, HashSet<PathBuf>> {
    static HELD: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns one path for all spellings of `path`, which itself is a link that must not be followed.
fn canonical(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let folder = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    path.file_name().map_or_else(|| path.to_owned(), |name| folder.join(name))
}

/// Returns whether a running process holds the lock file `path`, without touching the file.
///
/// # Errors
/// Fails as [`FilesystemLock::lock`] does.
#[doc(alias = "isLocked")]
pub fn is_locked(path: impl AsRef<Path>) -> io::Result<bool> {
    Ok(matches!(holder(&Machine, path.as_ref())?, Holder::Lives))
}
