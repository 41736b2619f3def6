//! The layout of `lith fmt`: what it makes uniform, and what it leaves to the person.

use lith_spec::{check, format};

/// The text laid out, which is laid out already when it is laid out again, and means the same.
fn laid_out(text: &str) -> String {
    let formatted = format("job.yaml", text).expect("the text is YAML");
    assert_eq!(format("job.yaml", &formatted).as_deref(), Ok(formatted.as_str()));
    assert_eq!(check("job.yaml", &formatted).job, check("job.yaml", text).job);
    formatted
}

#[test]
fn layout() {
    let text = r#"# A shop.
---
tasks:
    web:   # the front
        # What it runs.
        publish: ["8080:80" ,   '81:81']
        image:   'nginx'   # pinned below
        env:
            B:   "yes"

            # Comes first in the alphabet.
            A: 'it is "quoted"'
        # memory: 1G


    db: {image: "postgres:17",ports: [5432], volumes: ["db:/var/lib/postgresql/data"], memory: '1G', cpus: 0.5, stop_grace: 1m}
    # after the last task
job: shop
# the end
"#;
    insta::assert_snapshot!(laid_out(text), @"");
}

#[test]
fn texts_of_several_lines() {
    let text = "job: j\nconfigs:\n      app:\n            content: |\n                  a: 1\n\n                    b\n      other: { content: \"x\\ny\" }\ntasks: { t: { image: x } }\n";
    insta::assert_snapshot!(laid_out(text), @"");
}

#[test]
fn lists_of_mappings_and_comments_in_brackets() {
    let text = "job: j\nsecrets: [ a, # the first\n  b ]\ntasks:\n  t:\n    image: x\n    secrets:\n    - target: /x\n      source: a\n    # the other\n    -   b\n";
    insta::assert_snapshot!(laid_out(text), @"");
}

#[test]
fn variables_and_anchors_stay() {
    let text = "job: j\ntasks:\n  a: &a\n    memory: ${M:-1G}\n    image: 'x:${T:-1}'\n  b: { <<: *a, cpus: 1 }\n  c: *a\n";
    insta::assert_snapshot!(laid_out(text), @"");
}

#[test]
fn what_is_no_yaml_is_refused() {
    let diagnostics = format("job.yaml", "job: [\n").expect_err("a bracket is open");
    assert!(diagnostics.has_errors());
    assert_eq!(format("job.yaml", "").as_deref(), Ok(""));
    assert_eq!(format("job.yaml", "# words\n").as_deref(), Ok("# words\n"));
}
