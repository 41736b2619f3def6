//! The layout of `lith fmt`: what it makes uniform, and what it leaves to the person.

use lith_spec::{Diagnostics, check, format};

fn formatted(text: &str) -> Result<String, Diagnostics> {
    format("job.yaml", text.as_bytes()).map(|written| written.expect("nothing of it would be lost"))
}

/// The text laid out, which is laid out already when it is laid out again, and means the same.
fn laid_out(text: &str) -> String {
    let written = formatted(text).expect("the text is YAML");
    assert_eq!(formatted(&written).as_deref(), Ok(written.as_str()));
    assert_eq!(check("job.yaml", &written).job, check("job.yaml", text).job);
    written
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
    insta::assert_snapshot!(laid_out(text), @r#"
    # A shop.
    job: shop
    tasks:
      web: # the front
        image: nginx # pinned below
        env:
          B: "yes"

          # Comes first in the alphabet.
          A: "it is \"quoted\""
        # What it runs.
        publish: [ "8080:80", "81:81" ]
        # memory: 1G

      db:
        image: postgres:17
        memory: 1G
        cpus: 0.5
        volumes: [ db:/var/lib/postgresql/data ]
        ports: [ 5432 ]
        stop_grace: 1m
      # after the last task
    # the end
    "#);
}

#[test]
fn texts_of_several_lines() {
    let text = "job: j\nconfigs:\n      app:\n            content: |\n                  a: 1\n\n                    b\n      other: { content: \"x\\ny\" }\n      folded:\n        content: >-\n          one\n          two\n\n            three\n      blanks:\n        content: |2\n            x\ntasks: { t: { image: x } }\n";
    insta::assert_snapshot!(laid_out(text), @r#"
    job: j
    configs:
      app:
        content: |
          a: 1

            b
      other: { content: "x\ny" }
      folded:
        content: >-
          one
          two

            three
      blanks:
        content: "  x\n"
    tasks: { t: { image: x } }
    "#);
}

#[test]
fn lists_of_mappings_and_comments_in_brackets() {
    let text = "job: j\nsecrets: [ a, # the first\n  b ]\ntasks:\n  t:\n    image: x\n    secrets:\n    - target: /x\n      source: a\n    # the other\n    -   b\n";
    insta::assert_snapshot!(laid_out(text), @"
    job: j
    secrets:
      - a # the first
      - b
    tasks:
      t:
        image: x
        secrets:
          - source: a
            target: /x
          # the other
          - b
    ");
}

#[test]
fn variables_and_anchors_stay() {
    let text = "job: j\ntasks:\n  a: &a\n    memory: ${M:-1G}\n    image: 'x:${T:-1}'\n  b: { <<: *a, cpus: 1 }\n  c: *a\n";
    insta::assert_snapshot!(laid_out(text), @r#"
    job: j
    tasks:
      a: &a
        memory: ${M:-1G}
        image: "x:${T:-1}"
      b: { <<: *a, cpus: 1 }
      c: *a
    "#);
}

#[test]
fn what_would_be_hard_to_read_stays() {
    let job = |value: &str| {
        format!("job:   j\ntasks: {{ t: {{ image: x }} }}\nconfigs:\n  c:\n    content: {value}\n")
    };
    for value in [
        "\"a\n      b\"",
        "a\n      b",
        "|\n\n      a\n      b",
        "|+\n      a\n      b\n\n",
        "|1\n        a\n      b",
    ] {
        assert_eq!(format("job.yaml", job(value).as_bytes()), Ok(None), "{value}");
    }
    let text = job("\"Grüße – 5 €\"").replace("j\n", "j # ✓\n");
    insta::assert_snapshot!(laid_out(&text), @r#"
    job: j # ✓
    configs:
      c:
        content: "Grüße – 5 €"
    tasks: { t: { image: x } }
    "#);
}

#[test]
fn what_is_no_yaml_is_refused() {
    let diagnostics = formatted("job: [\n").expect_err("a bracket is open");
    assert!(diagnostics.has_errors());
    assert_eq!(formatted("").as_deref(), Ok(""));
    assert_eq!(formatted("# words\n").as_deref(), Ok("# words\n"));
}
