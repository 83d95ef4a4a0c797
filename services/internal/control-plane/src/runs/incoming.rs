//! Files and session as a pod sends them, bounded while they are read.

use domain::changeset::{Change, FileChange, Mode};
use proto::v1::{self, file_change};
use tonic::Status;

/// Bytes of a session that are kept.
const MAX_SESSION_BYTES: usize = 8 * 1024 * 1024;
/// Files beyond this are not even read; the checks refuse far fewer.
const MAX_FILES: usize = 20_000;

/// What came so far.
#[derive(Debug)]
pub(crate) struct Incoming {
    limit: u64,
    files: Vec<FileChange>,
    /// Of paths and contents.
    bytes: u64,
    session: Vec<u8>,
}

impl Incoming {
    /// Nothing yet; `limit` bounds the bytes of paths and contents.
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, files: Vec::new(), bytes: 0, session: Vec::new() }
    }

    /// Another file, with the beginning of its content.
    pub(crate) fn file(&mut self, file: v1::FileChange) -> Result<(), Status> {
        self.bytes += file.content.len() as u64 + file.path.len() as u64;
        let put = |mode, content| Change::Put { mode, content };
        let change = match file.mode() {
            file_change::Mode::File => put(Mode::Regular, file.content),
            file_change::Mode::Executable => put(Mode::Executable, file.content),
            file_change::Mode::Symlink => put(Mode::Symlink, file.content),
            file_change::Mode::Deleted => Change::Delete,
            file_change::Mode::Submodule => Change::Submodule,
            file_change::Mode::Unspecified => {
                return Err(Status::invalid_argument("a file without a mode"));
            }
        };
        self.files.push(FileChange { path: file.path, change });
        self.within_limits()
    }

    /// More of the file named last.
    pub(crate) fn more(&mut self, more: Vec<u8>) -> Result<(), Status> {
        self.bytes += more.len() as u64;
        match self.files.last_mut().map(|f| &mut f.change) {
            Some(Change::Put { content, .. }) => content.extend(more),
            Some(Change::Delete | Change::Submodule) | None => {
                return Err(Status::invalid_argument("content without a file"));
            }
        }
        self.within_limits()
    }

    /// More of the session.
    pub(crate) fn session(&mut self, session: Vec<u8>) -> Result<(), Status> {
        self.session.extend(session);
        if self.session.len() > MAX_SESSION_BYTES {
            return Err(Status::resource_exhausted("the session is too large"));
        }
        Ok(())
    }

    /// Files and session, all of it.
    pub(crate) fn complete(self) -> (Vec<FileChange>, Vec<u8>) {
        (self.files, self.session)
    }

    fn within_limits(&self) -> Result<(), Status> {
        let limit = self.limit;
        // Twice the limit is still read, so that the sentence can name the real size.
        if self.bytes > limit.saturating_mul(2).saturating_add(1024 * 1024) || self.files.len() > MAX_FILES {
            return Err(Status::resource_exhausted(format!(
                "the changeset is larger than {limit} bytes or {MAX_FILES} files"
            )));
        }
        Ok(())
    }
}
