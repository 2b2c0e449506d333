//! CronJobs.

use super::{PLAIN, Room, job};
use crate::findings::Findings;
use crate::pod::defaults::template;
use crate::tree;
use meta::{FieldPath, Value};

/// The longest name: what the controller appends must still fit a label.
const NAME_CHARS_MAX: usize = 52;

pub(super) const ROOM: Room = Room {
    defaults,
    check,
    ..PLAIN
};

fn defaults(cron: &mut Value) {
    tree::ensure(cron, "spec");
    template(cron, "spec.jobTemplate.spec.template");
    tree::fill(cron, "spec.concurrencyPolicy", "Allow");
    tree::fill(cron, "spec.suspend", false);
    tree::fill(cron, "spec.successfulJobsHistoryLimit", 3);
    tree::fill(cron, "spec.failedJobsHistoryLimit", 1);
}

fn check(cron: &Value, findings: &mut Findings) {
    let spec = FieldPath::new("spec");
    let name = tree::text(cron, "metadata.name");
    if name.len() > NAME_CHARS_MAX {
        findings.invalid(
            &FieldPath::new("metadata").child("name"),
            name,
            "must be no more than 52 characters",
        );
    }
    let schedule = tree::text(cron, "spec.schedule");
    if schedule.is_empty() {
        findings.required(&spec.child("schedule"), "");
    } else if let Err(reason) = check_schedule(schedule) {
        findings.invalid(&spec.child("schedule"), schedule, reason);
    }
    for field in [
        "startingDeadlineSeconds",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
    ] {
        findings.non_negative(
            &spec.child(field),
            tree::int(cron, &format!("spec.{field}")),
        );
    }
    findings.one_of(
        &spec.child("concurrencyPolicy"),
        tree::text(cron, "spec.concurrencyPolicy"),
        &["Allow", "Forbid", "Replace"],
        true,
    );
    let at = spec.child("jobTemplate").child("spec");
    let job_spec = tree::get(cron, "spec.jobTemplate.spec").unwrap_or(&Value::Null);
    job::check_spec(job_spec, &at, findings);
    if tree::flag(job_spec, "manualSelector") {
        findings.not_supported(&at.child("manualSelector"), true, &["nil", "false"]);
    }
}

/// Whether a cron line can be read: five fields of numbers, names, ranges, lists and steps, or a word such as @daily.
fn check_schedule(line: &str) -> Result<(), String> {
    if let Some(word) = line.strip_prefix('@') {
        let known = matches!(
            word,
            "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly"
        ) || word
            .strip_prefix("every ")
            .is_some_and(|text| !text.trim().is_empty());
        return if known {
            Ok(())
        } else {
            Err(format!("unrecognized descriptor: {line}"))
        };
    }
    let fields: Vec<&str> = line.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        ));
    }
    let bounds: [(i64, i64, &[&str]); 5] = [
        (0, 59, &[]),
        (0, 23, &[]),
        (1, 31, &[]),
        (
            1,
            12,
            &[
                "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
            ],
        ),
        (0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
    ];
    for (field, (low, high, names)) in fields.iter().zip(bounds) {
        for part in field.split(',') {
            check_part(part, low, high, names)?;
        }
    }
    Ok(())
}

fn check_part(part: &str, low: i64, high: i64, names: &[&str]) -> Result<(), String> {
    let (range, step) = part
        .split_once('/')
        .map_or((part, None), |(range, step)| (range, Some(step)));
    if let Some(step) = step {
        match step.parse::<u32>() {
            Ok(0) => return Err(format!("step of range should be a positive number: {part}")),
            Ok(_) => {}
            Err(_) => {
                return Err(format!(
                    "failed to parse int from {step}: strconv.Atoi: parsing {step:?}: invalid syntax"
                ));
            }
        }
    }
    if matches!(range, "*" | "?") {
        return Ok(());
    }
    let number = |text: &str| -> Result<i64, String> {
        let lower = text.to_ascii_lowercase();
        if let Some(position) = names.iter().position(|name| *name == lower) {
            return Ok(low + position as i64);
        }
        text.parse::<u32>().map(i64::from).map_err(|_| {
            format!(
                "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"
            )
        })
    };
    let (start, end) = match range.split_once('-') {
        Some((start, end)) => (number(start)?, number(end)?),
        None => {
            let start = number(range)?;
            (start, start)
        }
    };
    if start < low {
        return Err(format!(
            "beginning of range ({start}) below minimum ({low}): {part}"
        ));
    }
    if end > high {
        return Err(format!(
            "end of range ({end}) above maximum ({high}): {part}"
        ));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {part}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        for good in [
            "*/5 * * * *",
            "0 0 1 1 *",
            "@daily",
            "@every 1h",
            "1,2-3/2 * * JAN MON-fri",
        ] {
            assert_eq!(check_schedule(good), Ok(()), "{good}");
        }
        assert_eq!(
            check_schedule("* * * *"),
            Err("expected exactly 5 fields, found 4: [* * * *]".to_owned())
        );
        assert_eq!(
            check_schedule("60 * * * *"),
            Err("end of range (60) above maximum (59): 60".to_owned())
        );
        assert_eq!(
            check_schedule("@often"),
            Err("unrecognized descriptor: @often".to_owned())
        );
    }
}
