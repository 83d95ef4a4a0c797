//! Makes a context fit into a prompt: every text cleaned, none too long, all of them together
//! within a limit. What had to go is counted.

use crate::{
    clean,
    context::{
        AskedBy, CommentText, DocumentText, EarlierWork, IssueText, LeftOut, PromptContext, PullRequestText,
        RemarkText, ReviewText, listed,
    },
    language::Language,
};

/// Bytes of one text.
pub const BODY_LIMIT: usize = 64 * 1024;
/// Bytes of all texts together.
pub const DATA_LIMIT: usize = 256 * 1024;
/// The shortest delimiter that cannot be guessed: 64 bits as hex.
pub(crate) const MIN_DELIMITER: usize = 16;

/// Bytes of what stands in a line: a title, a login, a path.
const LINE_LIMIT: usize = 300;
/// What a text costs besides its bytes: its label and its fence.
const FENCE: usize = 512;
/// Less room than this is none: a text that would keep only its first words is left out.
const ROOM: usize = 1024;
/// Labels that are named.
const LABELS: usize = 50;
/// Documents that are named.
const DOCUMENTS: usize = 50;

/// Cleans and measures.
struct Fitting<'a> {
    delimiter: &'a str,
    language: Language,
    room: usize,
    shortened: u32,
    too_many: u32,
}

impl Fitting<'_> {
    /// On one line: it stands in a line of the template, which it must not be able to end.
    fn line(&self, text: &str) -> String {
        clean::cut(clean::line(text, self.delimiter), LINE_LIMIT, "…").0
    }

    fn lines(&self, texts: &[String]) -> Vec<String> {
        texts.iter().map(|text| self.line(text)).collect()
    }

    fn right(&self, text: Option<&String>) -> Option<String> {
        text.map(|text| self.line(text))
    }

    /// Stands in code in a line: no backtick of its own ends that.
    fn paths(&self, paths: &[String], more: usize) -> (Vec<String>, usize) {
        let (paths, further) = listed(paths.to_vec());
        let paths = paths.iter().map(|path| self.line(path).replace('`', "'")).collect();
        (paths, more.saturating_add(further))
    }

    /// A text, as much of it as there is room for.
    fn body(&mut self, text: &str) -> String {
        let text = clean::body(text, self.delimiter, self.language.comment_removed());
        let (text, cut) = clean::cut(text, BODY_LIMIT.min(self.room.max(ROOM)), self.language.cut());
        self.shortened += u32::from(cut);
        self.room = self.room.saturating_sub(text.len() + FENCE);
        text
    }

    /// The newest of a list that is sorted by age, in its order, while there is room.
    fn newest<T>(&mut self, all: &[T], mut fit: impl FnMut(&mut Self, &T) -> T) -> Vec<T> {
        let mut kept = Vec::new();
        for (before, one) in all.iter().enumerate().rev() {
            if self.room < ROOM + FENCE {
                let before = u32::try_from(before).unwrap_or(u32::MAX);
                self.too_many = self.too_many.saturating_add(before).saturating_add(1);
                break;
            }
            kept.push(fit(self, one));
        }
        kept.reverse();
        kept
    }

    fn comment(&mut self, comment: &CommentText) -> CommentText {
        CommentText {
            author: self.line(&comment.author),
            permission: self.right(comment.permission.as_ref()),
            created_at: self.line(&comment.created_at),
            body: self.body(&comment.body),
        }
    }

    fn remark(&mut self, remark: &RemarkText) -> RemarkText {
        RemarkText {
            path: self.line(&remark.path).replace('`', "'"),
            line: remark.line,
            author: self.line(&remark.author),
            permission: self.right(remark.permission.as_ref()),
            body: self.body(&remark.body),
        }
    }

    fn review(&mut self, review: &ReviewText) -> ReviewText {
        ReviewText {
            author: self.line(&review.author),
            permission: self.right(review.permission.as_ref()),
            state: self.line(&review.state),
            submitted_at: self.line(&review.submitted_at),
            body: self.body(&review.body),
            remarks: self.newest(&review.remarks, Self::remark),
        }
    }

    fn pull_request(&mut self, pull_request: &PullRequestText) -> PullRequestText {
        let (changed_files, more_files) = self.paths(&pull_request.changed_files, pull_request.more_files);
        PullRequestText {
            number: pull_request.number,
            title: self.line(&pull_request.title),
            body: self.body(&pull_request.body),
            author: self.line(&pull_request.author),
            branch: self.line(&pull_request.branch),
            base_sha: self.line(&pull_request.base_sha),
            head_sha: self.line(&pull_request.head_sha),
            changed_files,
            more_files,
        }
    }

    fn earlier(&self, earlier: &EarlierWork) -> EarlierWork {
        let (files, more) = self.paths(&earlier.files, earlier.more);
        EarlierWork { base_sha: self.line(&earlier.base_sha), files, more }
    }
}

impl PromptContext {
    /// The same, fit for a prompt: hidden characters ([`domain::neutralise::is_hidden`]) and the
    /// delimiter taken out of every text, HTML comments out of bodies; all but bodies on one line;
    /// no body longer than [`BODY_LIMIT`], all together not longer than [`DATA_LIMIT`]. Texts keep
    /// their beginning, and of lists the newest stay; [`LeftOut`] counts what went.
    ///
    /// Fitting what fits changes nothing.
    #[must_use]
    pub fn fitted(&self) -> Self {
        let mut fit = Fitting {
            delimiter: &self.delimiter,
            language: self.language,
            room: DATA_LIMIT,
            shortened: 0,
            too_many: 0,
        };
        // What is asked for comes first, then what has to be dealt with, then what was said.
        let issue = IssueText {
            number: self.issue.number,
            title: fit.line(&self.issue.title),
            body: fit.body(&self.issue.body),
            author: fit.line(&self.issue.author),
            author_permission: fit.right(self.issue.author_permission.as_ref()),
            labels: fit.lines(self.issue.labels.get(..LABELS).unwrap_or(&self.issue.labels)),
        };
        let pull_request = self.pull_request.as_ref().map(|it| fit.pull_request(it));
        let reviews = fit.newest(&self.reviews, Fitting::review);
        let comments = fit.newest(&self.comments, Fitting::comment);
        let document = |document: &DocumentText| DocumentText {
            stage: fit.line(&document.stage),
            title: fit.line(&document.title),
            url: fit.line(&document.url),
        };
        let newest_documents = self.documents.len().saturating_sub(DOCUMENTS);
        Self {
            repository: fit.line(&self.repository),
            base_branch: fit.line(&self.base_branch),
            base_sha: fit.line(&self.base_sha),
            stage: fit.line(&self.stage),
            role: fit.line(&self.role),
            kind: self.kind,
            language: self.language,
            issue,
            comments,
            left_out: LeftOut {
                too_many: self.left_out.too_many.saturating_add(fit.too_many),
                shortened: self.left_out.shortened.saturating_add(fit.shortened),
                ..self.left_out
            },
            earlier: self.earlier.as_ref().map(|earlier| fit.earlier(earlier)),
            write_scope: fit.lines(&self.write_scope),
            limits: self.limits,
            pull_request,
            reviews,
            documents: self.documents.iter().skip(newest_documents).map(document).collect(),
            session: self.session,
            asked_by: AskedBy {
                login: fit.line(&self.asked_by.login),
                channel: fit.line(&self.asked_by.channel),
            },
            delimiter: self.delimiter.clone(),
            run_id: fit.line(&self.run_id),
        }
    }
}
