//! Who may do what: one function, whatever the channel.

use serde::{Deserialize, Serialize};

/// What a code host says an account may do with a repository, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// Nothing.
    None,
    /// See it.
    Read,
    /// Manage issues and labels, no code.
    Triage,
    /// Push code.
    Write,
    /// Manage the repository, no destructive settings.
    Maintain,
    /// Everything.
    Admin,
}

impl std::fmt::Display for Permission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Triage => "triage",
            Self::Write => "write",
            Self::Maintain => "maintain",
            Self::Admin => "admin",
        })
    }
}

/// A person's role in a project, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProjectRole {
    /// See runs and logs.
    Viewer,
    /// Start, cancel and retry runs.
    Operator,
    /// Also approve and release.
    Approver,
    /// Also change the project.
    Admin,
}

impl std::fmt::Display for ProjectRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        })
    }
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// The operator of this platform: the user it runs as, or root, on the admin socket.
    PlatformOperator {
        /// Host uid, as the kernel reported it.
        uid: u32,
    },
    /// An account on the code host, with the permission it has right now.
    ForgeAccount {
        /// Login name.
        login: String,
        /// Asked of the code host for this decision; `None` when it could not be learnt.
        permission: Option<Permission>,
        /// Role in the project, if it is a member.
        role: Option<ProjectRole>,
    },
}

impl Principal {
    /// How the principal is named in the audit log.
    pub fn name(&self) -> String {
        match self {
            Self::PlatformOperator { uid } => format!("uid:{uid}"),
            Self::ForgeAccount { login, .. } => login.clone(),
        }
    }
}

/// What is being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// See runs, logs and explanations.
    View,
    /// Start or retry a run.
    Start,
    /// Cancel a run.
    Cancel,
    /// Let a held changeset be published.
    Release,
    /// Approve a result.
    Approve,
    /// Let nothing start, and let it start again.
    Pause,
    /// Enrol and list workers.
    ManageWorkers,
    /// List, retry and drop changes on the code host.
    ManageOutbox,
    /// Set repositories up and rotate their webhooks' secrets.
    ManageRepositories,
}

impl Action {
    /// Every action, for tables in tests.
    pub const ALL: [Self; 9] = [
        Self::View,
        Self::Start,
        Self::Cancel,
        Self::Release,
        Self::Approve,
        Self::Pause,
        Self::ManageWorkers,
        Self::ManageOutbox,
        Self::ManageRepositories,
    ];

    /// Least permission on the repository, and least project role, either of which is enough.
    fn floor(self) -> (Option<Permission>, Option<ProjectRole>) {
        match self {
            Self::View => (Some(Permission::Read), Some(ProjectRole::Viewer)),
            // A start costs money and writes code: the permission on the repository decides alone.
            Self::Start => (Some(Permission::Write), None),
            Self::Cancel => (Some(Permission::Triage), Some(ProjectRole::Operator)),
            Self::Release | Self::Approve => (Some(Permission::Maintain), Some(ProjectRole::Approver)),
            // A pause may reach beyond one project.
            Self::Pause | Self::ManageWorkers | Self::ManageOutbox | Self::ManageRepositories => (None, None),
        }
    }
}

/// Why somebody may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The code host did not tell what the account may do.
    PermissionUnknown,
    /// Less than the floor.
    TooLittle {
        /// What the account has.
        has: Permission,
        /// What it would take.
        needs: Permission,
    },
    /// Only the platform's operator may.
    OperatorOnly,
}

/// May `principal` do `action`?
///
/// # Errors
/// [`Denied`] with the reason; an unknown permission is a refusal, never a guess.
pub fn authorise(principal: &Principal, action: Action) -> Result<(), Denied> {
    right(principal, action).map(drop)
}

/// May `principal` start a run of a stage that takes at least `least`?
///
/// # Errors
/// As [`authorise`].
pub fn authorise_start(principal: &Principal, least: Permission) -> Result<(), Denied> {
    let (floor, role_floor) = Action::Start.floor();
    above(principal, floor.max(Some(least)), role_floor).map(drop)
}

/// The right by which `principal` may do `action`, in a word: "maintain", "approver".
///
/// # Errors
/// As [`authorise`].
pub fn right(principal: &Principal, action: Action) -> Result<String, Denied> {
    let (permission_floor, role_floor) = action.floor();
    above(principal, permission_floor, role_floor)
}

fn above(
    principal: &Principal,
    permission_floor: Option<Permission>,
    role_floor: Option<ProjectRole>,
) -> Result<String, Denied> {
    match principal {
        Principal::PlatformOperator { .. } => Ok("platform operator".to_owned()),
        Principal::ForgeAccount { permission, role, .. } => {
            if let (Some(floor), Some(role)) = (role_floor, role)
                && *role >= floor
            {
                return Ok(role.to_string());
            }
            let needs = permission_floor.ok_or(Denied::OperatorOnly)?;
            let has = permission.ok_or(Denied::PermissionUnknown)?;
            if has >= needs { Ok(has.to_string()) } else { Err(Denied::TooLittle { has, needs }) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(permission: Option<Permission>, role: Option<ProjectRole>) -> Principal {
        Principal::ForgeAccount { login: "mona".to_owned(), permission, role }
    }

    /// The whole table, so that a change of any cell is seen in review.
    #[test]
    fn actions_by_permission() {
        let permissions = [
            None,
            Some(Permission::None),
            Some(Permission::Read),
            Some(Permission::Triage),
            Some(Permission::Write),
            Some(Permission::Maintain),
            Some(Permission::Admin),
        ];
        let mut table = String::new();
        for action in Action::ALL {
            let row: Vec<&str> = permissions
                .iter()
                .map(|p| if authorise(&account(*p, None), action).is_ok() { "yes" } else { "no" })
                .collect();
            table.push_str(&format!("{action:?}: {}\n", row.join(" ")));
        }
        insta::assert_snapshot!(table, @r"
        View: no no yes yes yes yes yes
        Start: no no no no yes yes yes
        Cancel: no no no yes yes yes yes
        Release: no no no no no yes yes
        Approve: no no no no no yes yes
        Pause: no no no no no no no
        ManageWorkers: no no no no no no no
        ManageOutbox: no no no no no no no
        ManageRepositories: no no no no no no no
        ");
    }

    #[test]
    fn a_project_role_never_replaces_write_for_a_start() {
        let admin_without_write = account(Some(Permission::Read), Some(ProjectRole::Admin));
        assert_eq!(
            authorise(&admin_without_write, Action::Start),
            Err(Denied::TooLittle { has: Permission::Read, needs: Permission::Write })
        );
        assert_eq!(authorise(&account(None, Some(ProjectRole::Operator)), Action::Cancel), Ok(()));
        assert_eq!(authorise(&account(None, Some(ProjectRole::Approver)), Action::Release), Ok(()));
        assert!(authorise(&account(None, Some(ProjectRole::Operator)), Action::Release).is_err());
    }

    #[test]
    fn a_stage_may_ask_for_more_than_write_but_never_for_less() {
        let with = |permission| account(Some(permission), Some(ProjectRole::Admin));
        assert!(authorise_start(&with(Permission::Write), Permission::Maintain).is_err());
        assert!(authorise_start(&with(Permission::Maintain), Permission::Maintain).is_ok());
        assert!(authorise_start(&with(Permission::Triage), Permission::Triage).is_err());
    }

    #[test]
    fn an_unknown_permission_is_a_refusal() {
        assert_eq!(authorise(&account(None, None), Action::Start), Err(Denied::PermissionUnknown));
    }
}
