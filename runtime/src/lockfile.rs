//! Locks between processes: a lock is a file, and the file names the process that holds it.
use crate::{error::ValueError, failure::Failure};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    process,
};

/// What a lock needs of the operating system: links that name a process, and whether that process
/// lives.
///
/// [`FilesystemLock::new`] takes the machine's own. Another one is for tests, and for file systems
/// without links.
pub trait LockSystem {
    /// Makes a link at `path` that points to `target`, in one step;
    /// [`io::ErrorKind::AlreadyExists`] if something stands there.
    fn link(&self, target: &str, path: &Path) -> io::Result<()>;

    /// Where the link at `path` points; [`io::ErrorKind::NotFound`] if there is none.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// Takes the link at `path` away; [`io::ErrorKind::NotFound`] if there is none.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Whether the process `id` lives. Where nobody can know, `true`: a lock that is held stays
    /// held.
    fn is_alive(&self, id: u32) -> io::Result<bool>;
}

/// The machine's own: symbolic links, and signal 0.
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
        // no process has a number that large, and 0 is nobody in particular: as kill(2) has it,
        // somebody who lives
        let Ok(id) = i32::try_from(id) else { return Ok(false) };
        let Some(pid) = Pid::from_raw(id) else { return Ok(true) };
        match test_kill_process(pid) {
            // not ours to signal, but there
            Ok(()) | Err(rustix::io::Errno::PERM) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }
}

/// A lock that processes share: a symbolic link whose target is the id of the process that holds
/// it, as Twisted makes it.
///
/// A lock left behind by a process that has died is taken over. It is advisory, and for processes
/// of one machine and one namespace of process ids. Two objects on one file exclude each other also
/// within a process. To wait for one, see
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

/// Who holds a lock file.
enum Holder {
    Nobody,
    Lives,
    /// The process with this text as its id has died.
    Died(String),
}

impl FilesystemLock {
    /// A lock on the file `path`, not taken yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with_system(path, Machine)
    }

    /// The same, by another way of making links and of knowing processes.
    pub fn with_system(path: impl Into<PathBuf>, system: impl LockSystem + 'static) -> Self {
        Self { path: path.into(), system: Box::new(system), locked: false, clean: true }
    }

    /// Takes the lock if nobody who lives holds it. `false`: somebody does.
    ///
    /// # Errors
    /// What the operating system says where it is neither "exists" nor "is gone"; a file that names
    /// no process. The lock is not held then.
    pub fn lock(&mut self) -> io::Result<bool> {
        let mut clean = true;
        loop {
            match self.system.link(&process::id().to_string(), &self.path) {
                Ok(()) => {
                    (self.locked, self.clean) = (true, clean);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            match holder(&*self.system, &self.path)? {
                // it has been released meanwhile
                Holder::Nobody => {}
                Holder::Lives => return Ok(false),
                Holder::Died(id) => {
                    // another process may have taken it over since: then it names that one
                    match self.system.read(&self.path) {
                        Ok(now) if now == id => {}
                        Ok(_) => continue,
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        Err(error) => return Err(error),
                    }
                    match self.system.remove(&self.path) {
                        Ok(()) => clean = false,
                        // another process has tidied up
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// Gives the lock back.
    ///
    /// # Errors
    /// [`ValueError`] if the file names another process, and what the operating system says.
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
        self.locked = false;
        Ok(())
    }

    /// Whether this object holds the lock.
    #[doc(alias = "locked")]
    pub fn is_held(&self) -> bool {
        self.locked
    }

    /// Whether the one before has released it in order; `false` if it was taken over from a process
    /// that had died.
    #[doc(alias = "clean")]
    pub fn is_clean(&self) -> bool {
        self.clean
    }

    /// The file.
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
        let text =
            format!("the lock file `{}` names no process: it points to `{id}`", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })?;
    Ok(if system.is_alive(number)? { Holder::Lives } else { Holder::Died(id) })
}

/// Whether a living process holds the lock file `path`. It is not touched.
///
/// # Errors
/// As for [`FilesystemLock::lock`].
#[doc(alias = "isLocked")]
pub fn is_locked(path: impl AsRef<Path>) -> io::Result<bool> {
    Ok(matches!(holder(&Machine, path.as_ref())?, Holder::Lives))
}
