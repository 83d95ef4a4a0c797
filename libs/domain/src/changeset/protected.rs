//! Paths that are always for a person to look at: what steers agents, hooks, pipelines,
//! settings of git and of the code host, and what is deployed.

use super::paths::folded_parts;

/// Protected wherever they stand, as file or folder: lower case, with what they are.
const PROTECTED_ANYWHERE: &[(&str, &str)] = &[
    (".agent", AGENT),
    (".agents", AGENT),
    (".aider.conf.yml", AGENT),
    (".aiderignore", AGENT),
    (".amazonq", AGENT),
    (".amp", AGENT),
    (".augment", AGENT),
    (".augment-guidelines", AGENT),
    (".claude", AGENT),
    (".clinerules", AGENT),
    (".codebuddy", AGENT),
    (".codex", AGENT),
    (".continue", AGENT),
    (".continuerules", AGENT),
    (".crush", AGENT),
    (".cursor", AGENT),
    (".cursorignore", AGENT),
    (".cursorrules", AGENT),
    (".factory", AGENT),
    (".gemini", AGENT),
    (".gitattributes", GIT),
    (".githooks", HOOKS),
    (".gitmodules", GIT),
    (".goose", AGENT),
    (".goosehints", AGENT),
    (".husky", HOOKS),
    (".idx", AGENT),
    (".junie", AGENT),
    (".kilocode", AGENT),
    (".kilocodemodes", AGENT),
    (".kiro", AGENT),
    (".lefthook.yaml", HOOKS),
    (".lefthook.yml", HOOKS),
    (".lfsconfig", GIT),
    (".llmrules", AGENT),
    (".mcp.json", AGENT),
    (".opencode", AGENT),
    (".openhands", AGENT),
    (".openhands_instructions", AGENT),
    (".pre-commit-config.yaml", HOOKS),
    (".qwen", AGENT),
    (".roo", AGENT),
    (".roomodes", AGENT),
    (".roorules", AGENT),
    (".rules", AGENT),
    (".tabnine", AGENT),
    (".trae", AGENT),
    (".windsurf", AGENT),
    (".windsurfrules", AGENT),
    (".zed", AGENT),
    ("agent.md", AGENT),
    ("agents.local.md", AGENT),
    ("agents.md", AGENT),
    ("agents.override.md", AGENT),
    ("airules.md", AGENT),
    ("chart.yaml", DEPLOY),
    ("claude.local.md", AGENT),
    ("claude.md", AGENT),
    ("codeowners", "who must review what"),
    ("codex.md", AGENT),
    ("copilot-instructions.md", AGENT),
    ("crush.json", AGENT),
    ("gemini.md", AGENT),
    ("helmfile.yaml", DEPLOY),
    ("helmfile.yml", DEPLOY),
    ("kustomization", DEPLOY),
    ("kustomization.yaml", DEPLOY),
    ("kustomization.yml", DEPLOY),
    ("lefthook.yaml", HOOKS),
    ("lefthook.yml", HOOKS),
    ("mcp.json", AGENT),
    ("opencode.json", AGENT),
    ("opencode.jsonc", AGENT),
    ("qwen.md", AGENT),
    ("replit.md", AGENT),
    ("skaffold.yaml", DEPLOY),
    ("skill.md", AGENT),
    ("warp.md", AGENT),
];

/// Protected at the root of the repository, with all that is in them.
const PROTECTED_AT_ROOT: &[(&str, &str)] = &[
    (".buildkite", PIPELINE),
    (".callboard", SETTINGS),
    (".circleci", PIPELINE),
    (".devcontainer", "what starts in a developer's editor"),
    (".drone.yml", PIPELINE),
    (".github", "GitHub's workflows and settings"),
    (".gitlab-ci.yml", PIPELINE),
    (".travis.yml", PIPELINE),
    (".vscode", "what starts in a developer's editor"),
    (".woodpecker", PIPELINE),
    (".woodpecker.yml", PIPELINE),
    ("azure-pipelines.yml", PIPELINE),
    ("bitbucket-pipelines.yml", PIPELINE),
    ("charts", DEPLOY),
    ("deploy", DEPLOY),
    ("deployment", DEPLOY),
    ("deployments", DEPLOY),
    ("helm", DEPLOY),
    ("jenkinsfile", PIPELINE),
    ("k8s", DEPLOY),
    ("kubernetes", DEPLOY),
    ("manifests", DEPLOY),
    ("prompts", PROMPTS),
    ("services.yaml", SERVICES),
    ("terraform", DEPLOY),
];

const AGENT: &str = "what steers agents";
const DEPLOY: &str = "what is deployed";
const GIT: &str = "git's own settings";
const HOOKS: &str = "git hooks";
const PIPELINE: &str = "what a pipeline runs";
const PROMPTS: &str = "what agents are told";
const SERVICES: &str = "which services there are";
const SETTINGS: &str = "this platform's settings";

/// Of what is protected, what steers the agent or runs beside it: in a run it is the default
/// branch's, whatever the commit the run works on says.
const STEERING: [&str; 5] = [AGENT, HOOKS, PROMPTS, SERVICES, SETTINGS];

/// True for a path whose version of the default branch holds in every run.
pub fn is_steering(path: &[u8]) -> bool {
    let parts = folded_parts(&String::from_utf8_lossy(path));
    let steers = |list: &[(&str, &str)], part: &str| {
        list.iter().any(|(name, what)| *name == part && STEERING.contains(what))
    };
    parts.first().is_some_and(|first| steers(PROTECTED_AT_ROOT, first))
        || parts.iter().any(|part| steers(PROTECTED_ANYWHERE, part))
}

/// What a protected path belongs to; `None` for all other paths.
pub(super) fn protected(path: &str) -> Option<&'static str> {
    let parts = folded_parts(path);
    let what = |list: &[(&str, &'static str)], part: &str| {
        list.iter().find(|(name, _)| *name == part).map(|(_, what)| *what)
    };
    let at_root = parts.first().and_then(|first| what(PROTECTED_AT_ROOT, first));
    at_root.or_else(|| parts.iter().find_map(|part| what(PROTECTED_ANYWHERE, part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steering_paths_are_protected_paths_of_some_kinds() {
        for path in [
            "AGENTS.md",
            "sub/claude.MD",
            ".github/copilot-instructions.md",
            "deploy/AGENTS.md",
            ".callboard/stages.yaml",
            ".codex/config.toml",
            ".husky/pre-commit",
            ".mcp.json",
            "prompts/dev.md",
            "services.yaml",
        ] {
            assert!(is_steering(path.as_bytes()) && protected(path).is_some(), "{path:?}");
        }
        for path in ["deploy/a", ".github/workflows/ci.yml", "CODEOWNERS", ".gitattributes", "src/prompts/a"]
        {
            assert!(!is_steering(path.as_bytes()), "{path:?}");
        }
        assert!(!is_steering(b"\xff"));
    }

    #[test]
    fn protected_paths_whatever_their_case() {
        for path in [
            ".github/workflows/ci.yml",
            ".GitHub/x",
            ".github",
            "CODEOWNERS",
            "docs/codeowners",
            ".gitmodules",
            "a/.gitattributes",
            ".callboard/stages.yaml",
            "services.yaml",
            "AGENTS.md",
            "sub/Claude.md",
            ".codex/config.toml",
            "x/.claude/settings.json",
            ".cursor/rules/a",
            ".mcp.json",
            "a/opencode.json",
            ".opencode/a",
            "a/.cursorrules",
            ".husky/pre-commit",
            ".githooks/x",
            "prompts/dev.md",
            "deploy/a",
            "K8S/a",
            "helm/a",
            "charts/a",
            "a/b/kustomization.yaml",
            ".github /x",
            "GEMINI.md",
            "packages/a/.windsurfrules",
            ".github/copilot-instructions.md",
            ".agents/skills/x/SKILL.md",
            ".vscode/tasks.json",
            ".lefthook.yml",
            "a/.lfsconfig",
            "Jenkinsfile",
            "chart/a/Chart.yaml",
            ".g\u{200d}ithub/x",
        ] {
            assert!(protected(path).is_some(), "{path:?}");
        }
        for path in [
            "src/main.rs",
            "README.md",
            "src/prompts/a",
            "src/deploy/a",
            "docs/services.yaml",
            "github/a",
            "agents.mdx",
            "src/terraform/a",
            "rules",
        ] {
            assert_eq!(protected(path), None, "{path:?}");
        }
    }
}
