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
    (".callboard", "this platform's settings"),
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
    ("prompts", "what agents are told"),
    ("services.yaml", DEPLOY),
    ("terraform", DEPLOY),
];

const AGENT: &str = "what steers agents";
const DEPLOY: &str = "what is deployed";
const GIT: &str = "git's own settings";
const HOOKS: &str = "git hooks";
const PIPELINE: &str = "what a pipeline runs";

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
