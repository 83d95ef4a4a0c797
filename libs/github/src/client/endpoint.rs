//! Every call the client can make. There is no other way to a path, so what is not documented
//! cannot be called, and a test can hold the whole list against GitHub's description.

use ::forge::{ForgeError, Result};
use domain::names::RepositoryName;
use http::Method;
use url::Url;

/// What a call does to limits, and whether its answer may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reads; the answer is kept and asked for again by its tag.
    Kept,
    /// Reads, always anew: lists and states that are looked into right after a write, where an
    /// answer that lags would hide what was made, and rights.
    Fresh,
    /// Makes or changes what people are notified of; GitHub limits how much.
    Content,
    /// Any other write.
    Change,
}

macro_rules! endpoints {
    ($($name:ident = $kind:ident $method:ident $template:literal)*) => {
        /// A call of GitHub's API that the client makes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Endpoint {
            $(#[doc = concat!("`", stringify!($method), " ", $template, "`")] $name,)*
        }

        impl Endpoint {
            /// Every call there is.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its method.
            pub fn method(self) -> Method {
                match self {
                    $(Self::$name => Method::$method,)*
                }
            }

            /// Its path as GitHub's description writes it.
            pub fn template(self) -> &'static str {
                match self {
                    $(Self::$name => $template,)*
                }
            }

            pub(crate) fn kind(self) -> Kind {
                match self {
                    $(Self::$name => Kind::$kind,)*
                }
            }
        }
    };
}

endpoints! {
    User = Kept GET "/user"

    App = Kept GET "/app"
    AppInstallation = Fresh GET "/repos/{owner}/{repo}/installation"
    MintToken = Change POST "/app/installations/{installation_id}/access_tokens"
    AppDeliveries = Fresh GET "/app/hook/deliveries"
    AppDelivery = Fresh GET "/app/hook/deliveries/{delivery_id}"
    RedeliverToApp = Change POST "/app/hook/deliveries/{delivery_id}/attempts"

    ConvertManifest = Change POST "/app-manifests/{code}/conversions"

    Repository = Kept GET "/repos/{owner}/{repo}"
    Permission = Fresh GET "/repos/{owner}/{repo}/collaborators/{username}/permission"
    Labels = Fresh GET "/repos/{owner}/{repo}/labels"
    CreateLabel = Change POST "/repos/{owner}/{repo}/labels"
    UpdateLabel = Change PATCH "/repos/{owner}/{repo}/labels/{name}"

    Hooks = Fresh GET "/repos/{owner}/{repo}/hooks"
    CreateHook = Change POST "/repos/{owner}/{repo}/hooks"
    UpdateHook = Change PATCH "/repos/{owner}/{repo}/hooks/{hook_id}"
    PingHook = Change POST "/repos/{owner}/{repo}/hooks/{hook_id}/pings"
    Deliveries = Fresh GET "/repos/{owner}/{repo}/hooks/{hook_id}/deliveries"
    Delivery = Fresh GET "/repos/{owner}/{repo}/hooks/{hook_id}/deliveries/{delivery_id}"
    Redeliver = Change POST "/repos/{owner}/{repo}/hooks/{hook_id}/deliveries/{delivery_id}/attempts"

    Issues = Kept GET "/repos/{owner}/{repo}/issues"
    Issue = Fresh GET "/repos/{owner}/{repo}/issues/{issue_number}"
    Timeline = Fresh GET "/repos/{owner}/{repo}/issues/{issue_number}/timeline"
    Comments = Fresh GET "/repos/{owner}/{repo}/issues/{issue_number}/comments"
    CreateComment = Content POST "/repos/{owner}/{repo}/issues/{issue_number}/comments"
    Comment = Fresh GET "/repos/{owner}/{repo}/issues/comments/{comment_id}"
    UpdateComment = Content PATCH "/repos/{owner}/{repo}/issues/comments/{comment_id}"
    DeleteComment = Change DELETE "/repos/{owner}/{repo}/issues/comments/{comment_id}"
    AddLabels = Change POST "/repos/{owner}/{repo}/issues/{issue_number}/labels"
    RemoveLabel = Change DELETE "/repos/{owner}/{repo}/issues/{issue_number}/labels/{name}"
    React = Change POST "/repos/{owner}/{repo}/issues/{issue_number}/reactions"
    ReactToComment = Change POST "/repos/{owner}/{repo}/issues/comments/{comment_id}/reactions"

    Branch = Fresh GET "/repos/{owner}/{repo}/branches/{branch}"
    CreateRef = Change POST "/repos/{owner}/{repo}/git/refs"
    UpdateRef = Change PATCH "/repos/{owner}/{repo}/git/refs/{ref}"
    Commit = Kept GET "/repos/{owner}/{repo}/git/commits/{commit_sha}"
    CreateCommit = Change POST "/repos/{owner}/{repo}/git/commits"
    Tree = Kept GET "/repos/{owner}/{repo}/git/trees/{tree_sha}"
    CreateTree = Change POST "/repos/{owner}/{repo}/git/trees"
    CreateBlob = Change POST "/repos/{owner}/{repo}/git/blobs"
    Compare = Kept GET "/repos/{owner}/{repo}/compare/{basehead}"
    Contents = Kept GET "/repos/{owner}/{repo}/contents/{path}"

    PullRequests = Fresh GET "/repos/{owner}/{repo}/pulls"
    CreatePullRequest = Content POST "/repos/{owner}/{repo}/pulls"
    PullRequest = Fresh GET "/repos/{owner}/{repo}/pulls/{pull_number}"
    UpdatePullRequest = Content PATCH "/repos/{owner}/{repo}/pulls/{pull_number}"
    PullRequestFiles = Fresh GET "/repos/{owner}/{repo}/pulls/{pull_number}/files"
    PullRequestRemarks = Fresh GET "/repos/{owner}/{repo}/pulls/{pull_number}/comments"
    Reviews = Fresh GET "/repos/{owner}/{repo}/pulls/{pull_number}/reviews"
    CreateReview = Content POST "/repos/{owner}/{repo}/pulls/{pull_number}/reviews"

    CheckRuns = Fresh GET "/repos/{owner}/{repo}/commits/{ref}/check-runs"
    CreateCheckRun = Content POST "/repos/{owner}/{repo}/check-runs"
    UpdateCheckRun = Content PATCH "/repos/{owner}/{repo}/check-runs/{check_run_id}"
    CreateStatus = Content POST "/repos/{owner}/{repo}/statuses/{sha}"
}

impl Endpoint {
    /// The address's path below `base`: the template with `parts` in place of its names, in order;
    /// `{owner}` and `{repo}` are the repository's. Each part is percent-encoded; names of refs
    /// and paths of files keep their slashes.
    ///
    /// # Errors
    /// [`ForgeError::Invalid`] for a part that would make it the path of another call.
    pub(crate) fn url(self, base: &Url, repository: Option<&RepositoryName>, parts: &[&str]) -> Result<Url> {
        let unfit = || ForgeError::Invalid { message: "a name that cannot be part of an address".to_owned() };
        let mut url = base.clone();
        let mut parts = parts.iter();
        {
            let mut path = url.path_segments_mut().map_err(|()| unfit())?;
            path.pop_if_empty();
            for segment in self.template().split('/').skip(1) {
                let Some(name) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) else {
                    path.push(segment);
                    continue;
                };
                let part = match name {
                    "owner" => repository.map(RepositoryName::owner),
                    "repo" => repository.map(RepositoryName::name),
                    _ => parts.next().copied(),
                };
                let part = part.ok_or_else(unfit)?;
                let keeps_slashes = matches!(name, "ref" | "path");
                for piece in part.split(|c| keeps_slashes && c == '/') {
                    // The address would be shorter by it: another call.
                    if matches!(piece, "" | "." | "..") {
                        return Err(unfit());
                    }
                    path.push(piece);
                }
            }
        }
        if parts.next().is_some() { Err(unfit()) } else { Ok(url) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn path(base: &str, endpoint: Endpoint, parts: &[&str]) -> Result<String> {
        let repository: RepositoryName = "octocat/hello-world".parse().expect("a name");
        let base = base.parse().expect("a URL");
        endpoint.url(&base, Some(&repository), parts).map(|url| url.path().to_owned())
    }

    #[test]
    fn parts_are_encoded_and_the_base_path_is_kept() {
        let github = "https://api.github.com";
        let at = |endpoint, parts: &[&str]| path(github, endpoint, parts).expect("a path");
        assert_eq!(at(Endpoint::Issue, &["1"]), "/repos/octocat/hello-world/issues/1");
        assert_eq!(
            at(Endpoint::UpdateLabel, &["a/b c?#%ä\\"]),
            "/repos/octocat/hello-world/labels/a%2Fb%20c%3F%23%25%C3%A4%5C"
        );
        assert_eq!(
            at(Endpoint::UpdateRef, &["heads/callboard/7 dev"]),
            "/repos/octocat/hello-world/git/refs/heads/callboard/7%20dev"
        );
        assert_eq!(at(Endpoint::MintToken, &["7"]), "/app/installations/7/access_tokens");
        for enterprise in ["https://ghe.example/api/v3", "https://ghe.example/api/v3/"] {
            let path = path(enterprise, Endpoint::Issues, &[]).expect("a path");
            assert_eq!(path, "/api/v3/repos/octocat/hello-world/issues");
        }
        // A base path that our own paths happen to begin with.
        let path = path("https://ghe.example/repos", Endpoint::Issues, &[]).expect("a path");
        assert_eq!(path, "/repos/repos/octocat/hello-world/issues");
    }

    /// Without its last part, taking one label off would take all of them off.
    #[test]
    fn no_part_makes_it_another_call() {
        for label in ["", ".", ".."] {
            let error = path("https://host", Endpoint::RemoveLabel, &["7", label]).expect_err(label);
            assert!(matches!(error, ForgeError::Invalid { .. }), "{error:?}");
        }
        for reference in ["", "heads/", "heads/../tags/v1", "heads//x", "/heads/x", "heads/./x"] {
            path("https://host", Endpoint::UpdateRef, &[reference]).expect_err(reference);
        }
        path("https://host", Endpoint::RemoveLabel, &["7"]).expect_err("a part too few");
        path("https://host", Endpoint::Issue, &["7", "8"]).expect_err("a part too many");
        let base: Url = "https://host".parse().expect("a URL");
        Endpoint::Issue.url(&base, None, &["7"]).expect_err("no repository");
    }

    #[test]
    fn each_call_stands_once_and_reads_or_writes() {
        let mut seen = HashSet::new();
        for endpoint in Endpoint::ALL {
            assert!(seen.insert((endpoint.method(), endpoint.template())), "{endpoint:?} stands twice");
            let reads = matches!(endpoint.kind(), Kind::Kept | Kind::Fresh);
            assert_eq!(endpoint.method() == Method::GET, reads, "{endpoint:?}");
        }
    }
}
