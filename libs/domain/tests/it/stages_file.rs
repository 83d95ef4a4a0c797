//! `.callboard/stages.yaml`: what a project may say, what is wrong with it, and what holds then.

use std::collections::BTreeSet;

use domain::{
    rights::Permission,
    stage::{
        Ceilings, FIELDS, Off, Pod, PodCeilings, Policy, PublicationRule, Reasoning, SecondTrigger, StageKind,
    },
};

/// What a project's own stages come to.
fn under(stages: &str, ceilings: &Ceilings) -> Policy {
    Policy::of_project(Some(&format!("version: 1\n{stages}")), ceilings, &Pod::default())
}

fn of(stages: &str) -> Policy {
    under(stages, &Ceilings::default())
}

const TRANSLATE: &str = "
stages:
  translate:
    description: Translates the documents.
    role: km
    write_scope: [\"docs/**\"]
    time_limit_minutes: 30
";

#[test]
fn the_products_own_stages_read_without_a_word() {
    let policy = Policy::built_in();
    assert_eq!(policy.stages.len(), 17);
    assert_eq!(policy.profiles.len(), 3);
    assert_eq!((&policy.problem, policy.broken.len(), policy.clipped.len()), (&None, 0, 0));
    assert_eq!(policy, Policy::of_project(None, &Ceilings::default(), &Pod::default()));
    let repair = &policy.stages["ai-repair"];
    assert_eq!((repair.publication, repair.start), (PublicationRule::Approver, Permission::Maintain));
    for (name, stage) in &policy.stages {
        assert_eq!(&stage.template, name);
        assert_eq!(stage.write_scope.is_empty(), stage.kind != StageKind::Work, "{name}");
    }
}

/// Every field of a stage is in the table that file, schema and documentation read, and no other.
#[test]
fn the_table_of_fields_is_the_type() {
    let mut dev = Policy::built_in().stages["dev"].clone();
    // Written only where something is asked.
    dev.pod.cpu_millis = Some(1000);
    dev.worker_labels.insert("gpu".to_owned(), "yes".to_owned());
    let stage = serde_json::to_value(&dev).unwrap();
    let of_type: BTreeSet<&str> = stage.as_object().unwrap().keys().map(String::as_str).collect();
    let of_table: BTreeSet<&str> =
        FIELDS.iter().map(|field| field.name).filter(|n| *n != "enabled").collect();
    assert_eq!(of_type, of_table);
}

/// A stage that exists is changed field by field, a new one is added, and one is switched off.
#[test]
fn a_project_changes_adds_and_switches_off() {
    let policy = of(&format!(
        "language: ru\nprofiles: {{short: [dev, translate]}}{TRANSLATE}    next: [qa]
  dev: {{time_limit_minutes: 90, second_trigger: queue, next: [translate]}}
  ops: {{enabled: false}}"
    ));
    assert_eq!((&policy.problem, policy.broken.len(), policy.clipped.len()), (&None, 0, 0));
    let (dev, before) = (&policy.stages["dev"], &Policy::built_in().stages["dev"]);
    assert_eq!((dev.time_limit_minutes, dev.second_trigger), (90, SecondTrigger::Queue));
    assert_eq!((&dev.description, &dev.write_scope), (&before.description, &before.write_scope));
    let translate = &policy.stages["translate"];
    assert_eq!((translate.template.as_str(), translate.start), ("translate", Permission::Write));
    assert_eq!(policy.get("ops"), None);
    assert_eq!(policy.off["ops"], Off::Project);
    assert!(!policy.stages["ai-repair"].next.contains(&"ops".to_owned()), "what is off is offered nowhere");
    assert!(!policy.profiles["feature"].contains(&"ops".to_owned()));
    assert_eq!(policy.profiles["short"], ["dev", "translate"]);
    assert_eq!(policy.language, "ru");
}

/// What is wrong with one stage spoils that one, names the field, and says what is expected.
#[test]
fn each_stage_is_read_by_itself() {
    let said: Vec<String> = [
        "translate: {description: T, role: km, write_scope: [\"**/*.md\"], time_limit_minutes: long}",
        "translate: {description: T, role: km, write_scope: [\"**/*.md\"], time_limit_minutes: 0}",
        "translate: {description: T, role: km, write_scope: [\"**/*.md\"]}",
        "translate: {description: T, role: km, write_scop: [\"**/*.md\"], time_limit_minutes: 30}",
        "translate: {description: T, role: km, write_scope: [\"docs/**\", \"docs/[\"], time_limit_minutes: 30}",
        "translate: {description: T, role: km, write_scope: docs, time_limit_minutes: 30}",
        "translate: {description: T, role: km, write_scope: [], time_limit_minutes: 30, kind: review}",
        "translate: {description: T, role: km, write_scope: [], time_limit_minutes: 30, start: triage}",
        "translate: {description: T, role: km, write_scope: [], time_limit_minutes: 30, next: [nowhere]}",
        "translate: {description: T, role: km, write_scope: [], time_limit_minutes: 30, requires: [{stage: dev}]}",
        "translate: {description: T, role: km, write_scope: [], time_limit_minutes: 30, requires: [{stage: nowhere, is: merged}]}",
        "dev: {mode: full-env}",
        "dev: {model: \"\"}",
        "dev: {revise: 1}",
        "dev:",
        "dev: {<<: {role: sa}}",
        "dev: {anything: 1}",
        "review: {write_scope: [\"**\"]}",
        "dev: {pod: {cpu: 500}}",
        "dev: {pod: {memory_mb: 512}}",
        "dev: {pod: {cpu_millis: 0.5}}",
        "dev: {pod: big}",
        "dev: {pod: {image: \"https://ghcr.io/acme/agents\"}}",
        "dev: {pod: {node_selector: {gpu: true}}}",
        "dev: {pod: {node_selector: {\"no spaces\": a}}}",
        "dev: {pod: {tolerations: {key: spot}}}",
        "dev: {pod: {tolerations: [{key: spot}, {value: \"yes\"}]}}",
        "dev: {pod: {tolerations: [{key: spot, effect: Schedule}]}}",
        "dev: {pod: {tolerations: [{key: spot, efect: NoSchedule}]}}",
        "dev: {pod: {topology_spread: [{topology_key: zone, max_skew: 0}]}}",
        "dev: {worker_labels: [gpu]}",
        "dev: {worker_labels: {gpu: \"\"}}",
        "\"Bad Name\": {enabled: false}",
        "7: {enabled: false}",
        "qa-: {enabled: false}",
        "-dev: {enabled: false}",
    ]
    .into_iter()
    .map(|stage| {
        let policy = of(&format!("stages:\n  qa: {{priority: 7}}\n  {stage}\n"));
        assert_eq!(policy.problem, None, "{stage}");
        assert_eq!(policy.stages["qa"].priority, 7, "the stage beside it holds: {stage}");
        let [(name, broken)] = policy.broken.iter().collect::<Vec<_>>()[..] else { panic!("{stage}: {:?}", policy.broken) };
        assert_eq!(policy.get(name), None, "{stage}");
        format!("`{}` {}.", broken.field, broken.problem)
    })
    .collect();
    insta::assert_snapshot!(said.join("\n"));
}

/// A file that does not read as a whole says where, and the product's stages hold.
#[test]
fn a_file_that_does_not_read_says_where() {
    let said: Vec<String> = [
        "version: 1\nstages:\n  dev: {role: dev\n  qa: {}\n",
        "version: 1\n\tstages: {}\n",
        "version: 2\n",
        "stages: {}\n",
        "",
        "- dev\n",
        "version: 1\nstage: {}\n",
        "version: 1\nstages: [dev]\n",
        "version: 1\nlanguage: de\n",
        "version: 1\nversion: 1\n",
        "version: 1\nstages:\n  dev: {priority: 1}\n  dev: {priority: 2}\n",
        "version: 1\nlabels: {rnu: \"go:\"}\n",
        "version: 1\nlabels: {run: \"\"}\n",
        "version: 1\nlabels: {run: \"state:\"}\n",
        "version: 1\nlabels: {need: \"state:need:\"}\n",
        "version: 1\nlabels: {discussion: \"run:talk\"}\n",
        "version: 1\nlabels: {revise: again}\n",
        "version: 1\nlabels: {revise: \":preview\"}\n",
        "version: 1\nlabels: {run: \"callboard please run \"}\n",
        "version: 1\nlabels: {run: \"callboard-please-run:\"}\n",
        "version: 1\nstages: !include other.yaml\n",
    ]
    .into_iter()
    .map(|file| {
        let policy = Policy::of_project(Some(file), &Ceilings::default(), &Pod::default());
        let problem = policy.problem.clone().unwrap_or_else(|| panic!("{file} reads"));
        assert_eq!(Policy { problem: None, ..policy }, Policy::built_in());
        problem
    })
    .collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn stages_that_wait_for_one_another_spoil_each_other_only() {
    let policy = of("stages:
  plan: {requires: [{stage: design, is: published}]}
  design: {requires: [{stage: prd, is: published}]}
  prd: {requires: [{stage: plan, is: merged}]}
  dev: {requires: [{stage: plan, is: approved}]}
  rethink: {requires: [{stage: rethink, is: merged}]}
  ops: {requires: [{stage: vision, is: merged}]}
  vision: {enabled: false}
");
    let said: Vec<String> = policy.broken.values().map(|b| format!("`{}` {}.", b.field, b.problem)).collect();
    insta::assert_snapshot!(said.join("\n"));
    assert!(
        policy.get("dev").is_some(),
        "a stage that waits for a broken one reads; it only cannot start yet"
    );
}

#[test]
fn a_path_with_an_unknown_stage_spoils_that_path() {
    let policy = of("profiles:\n  feature: [plan, deploy]\n  mine: [plan, dev]\n  odd: dev\n");
    assert_eq!(policy.profiles.keys().collect::<Vec<_>>(), ["mine", "new-service", "quick-fix"]);
    let said: Vec<String> = policy.broken.values().map(|b| format!("`{}` {}.", b.field, b.problem)).collect();
    insta::assert_snapshot!(said.join("\n"));
}

/// The operator's word is the last: what a file asks for beyond it is clipped, and said.
#[test]
fn ceilings_clip_and_say_so() {
    let ceilings = Ceilings {
        stages: Some(["dev", "plan", "ai-repair", "translate"].map(str::to_owned).into()),
        start: Some(Permission::Maintain),
        publication: None,
        models: Some(["small".to_owned(), "large".to_owned()].into()),
        reasoning: Some(Reasoning::Medium),
        time_limit_minutes: Some(50),
        max_changeset_bytes: Some(1_000_000),
        max_changeset_files: Some(10),
        max_changeset_lines: None,
        priority: Some(5),
        pods: PodCeilings::default(),
    };
    let file = format!(
        "{TRANSLATE}    start: admin
    priority: 5
  dev: {{time_limit_minutes: 600, model: huge, reasoning: extra-high, max_changeset_files: 300, priority: 90, max_changeset_lines: 900000}}
  ai-repair: {{start: write, publication: checked}}
  plan: {{model: Large, max_changeset_bytes: 20000000}}
"
    );
    let policy = under(&file, &ceilings);
    insta::assert_snapshot!(policy.clipped.join("\n"));
    let dev = &policy.stages["dev"];
    assert_eq!((dev.time_limit_minutes, dev.max_changeset_files, dev.priority), (50, 10, 5));
    assert_eq!(
        (&dev.model, dev.reasoning, dev.start),
        (&None, Some(Reasoning::Medium), Permission::Maintain)
    );
    assert_eq!(policy.stages["translate"].start, Permission::Admin, "stricter than the floor is fine");
    assert_eq!(policy.stages["ai-repair"].publication, PublicationRule::Approver);
    assert_eq!(policy.off["qa"], Off::Operator);
    assert_eq!(policy.stages.len(), 4);

    let quiet = Policy::of_project(None, &ceilings, &Pod::default());
    assert_eq!(quiet.clipped, Vec::<String>::new(), "the product's own stages are narrowed without a word");
    assert_eq!(quiet.stages["dev"].time_limit_minutes, 50);

    let all = Ceilings { publication: Some(PublicationRule::Approver), ..Ceilings::default() };
    let policy = Policy::of_project(None, &all, &Pod::default());
    assert!(policy.stages.values().all(|stage| stage.publication == PublicationRule::Approver));
}

/// What a project's file asks of a cluster is within what the operator allows, and over what the
/// operator has for the project.
#[test]
fn pods_are_within_the_ceilings() {
    let yaml = |text: &str| serde_yaml::from_str::<PodCeilings>(text).expect("ceilings");
    let pods: Pod = serde_yaml::from_str(
        "{memory_mib: 2048, image: 'ghcr.io/acme/agents:1', node_selector: {pool: agents}, tolerations: [{key: agents}]}",
    )
    .expect("a pod");
    let file = "version: 1
stages:
  dev:
    pod:
      cpu_millis: 4000
      memory_mib: 1024
      image: ghcr.io/acme/rust:2
      node_selector: {disk: ssd, pool: agents, zone: a}
      tolerations: [{key: spot, effect: NoSchedule}, {key: gpu}, {key: agents, value: \"yes\"}]
      topology_spread: [{topology_key: kubernetes.io/hostname}]
    worker_labels: {gpu: \"yes\", arch: arm64}
  plan:
    pod: {image: ghcr.io/acme/evil/agents:1, memory_mib: 9000, node_selector: {pool: control-plane}}
";
    let said = |ceilings: PodCeilings| {
        let ceilings = Ceilings { pods: ceilings, ..Ceilings::default() };
        let policy = Policy::of_project(Some(file), &ceilings, &pods);
        assert_eq!((policy.problem.as_ref(), policy.broken.len()), (None, 0), "{:?}", policy.broken);
        let holds = ["dev", "plan", "qa"].map(|name| {
            let stage = &policy.stages[name];
            format!("{name} {} {:?}", serde_json::to_string(&stage.pod).unwrap(), stage.worker_labels)
        });
        format!("{}\n\n{}", policy.clipped.join("\n"), holds.join("\n"))
    };
    let without_a_word = PodCeilings::default().as_large_as(&pods, [1000, 4096, 8192]);
    insta::assert_snapshot!("pods_without_a_word_of_the_operator", said(without_a_word));
    insta::assert_snapshot!(
        "pods_within_the_ceilings",
        said(yaml(
            "
max_cpu_millis: 2000
max_memory_mib: 4096
images: ['ghcr.io/acme/*']
node_selector: {disk: [ssd, nvme], zone: ['*']}
tolerations: [{key: spot}, {key: gpu, value: small}]
worker_labels: {arch: [arm64, amd64]}"
        ))
    );
    let product = Policy::of_project(None, &Ceilings::default(), &pods);
    assert_eq!(product.stages["dev"].pod, pods, "what is left out is the project's");
    assert_eq!(product.clipped, Vec::<String>::new());
}
