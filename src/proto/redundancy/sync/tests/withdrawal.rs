//! What the mapping system takes back.

use super::*;

#[test]
fn what_the_mapping_system_takes_back_goes_everywhere() {
    let mut net = pair(|_| ());
    let mut both = vec![record("10.2.0.0/16", &["203.0.113.9"])];
    both.push(record("10.2.3.0/24", &["203.0.113.77"]));
    net.learn(0, "10.2.9.9", both);
    net.run_for(SECOND);
    assert_eq!(names(&net, 1).len(), 2);
    // The more specific one is no more, says the answer to a question for it.
    solicit(&mut net, 0, "10.2.3.0/24", "203.0.113.77");
    net.reply(0, vec![record("10.2.0.0/16", &["203.0.113.9"])]);
    net.run_for(SECOND);
    assert_eq!(names(&net, 0), ["10.2.0.0/16"]);
    assert_same(&net, 0, 1);
}

#[test]
fn a_withdrawal_counts_although_it_overtakes_what_it_withdraws() {
    let mut net = pair(|sync| sync.ack = false);
    net.dark.insert(ip(ADDRESSES[1]));
    net.learn(0, "10.2.3.9", vec![record("10.2.3.0/24", &["203.0.113.66"])]);
    net.run_for(10 * MILLI);
    let told = telling(&net, 0, 1, "10.2.3.0/24");
    net.dark.clear();
    solicit(&mut net, 0, "10.2.3.0/24", "203.0.113.66");
    net.reply(0, vec![record("10.2.0.0/16", &["203.0.113.9"])]);
    net.run_for(100 * MILLI);
    net.deliver(1, "198.51.100.1:4342", &told);
    assert_eq!(names(&net, 1), ["10.2.0.0/16"]);
    assert_eq!(ignored(&net, 1, 0, DropReason::SyncOlder), 2, "nothing to withdraw, and nothing to learn");
    // Learnt anew, it counts again.
    net.learn(0, "10.2.3.9", vec![record("10.2.3.0/24", &["203.0.113.66"])]);
    net.run_for(100 * MILLI);
    assert_eq!(names(&net, 1), names(&net, 0));
}

#[test]
fn what_was_withdrawn_while_nobody_heard_it_goes_when_all_is_told() {
    // Withdrawn by who had told of it; then by the other one, who only had a copy.
    for owner in 0..2 {
        let mut net = pair(|_| ());
        net.learn(owner, "10.2.3.9", vec![record("10.2.3.0/24", &["203.0.113.66"])]);
        net.learn(1, "10.7.0.9", vec![record("10.7.0.0/16", &["203.0.113.9"])]);
        net.run_for(SECOND);
        net.dark.insert(ip(ADDRESSES[1]));
        net.run_for(30 * SECOND);
        solicit(&mut net, 0, "10.2.3.0/24", "203.0.113.66");
        net.reply(0, vec![record("10.2.0.0/16", &["203.0.113.9"])]);
        assert_eq!(names(&net, 0), ["10.2.0.0/16", "10.7.0.0/16"]);
        net.run_for(30 * SECOND);
        net.dark.clear();
        net.run_for(5 * SECOND);
        for id in 0..2 {
            assert_eq!(names(&net, id), ["10.2.0.0/16", "10.7.0.0/16"], "{owner} {id}");
        }
        // Who starts anew knows nothing, which is no reason for the others to forget it.
        net.restart(0, config(0, 2));
        net.run_for(5 * SECOND);
        for id in 0..2 {
            assert_eq!(names(&net, id), ["10.2.0.0/16", "10.7.0.0/16"], "{owner} {id}");
        }
    }
}

#[test]
fn a_late_withdrawal_leaves_what_was_learnt_since() {
    let mut net = pair(|_| ());
    net.learn(0, "10.2.3.9", vec![record("10.2.3.0/24", &["203.0.113.66"])]);
    net.run_for(SECOND);
    net.dark.insert(ip(ADDRESSES[1]));
    solicit(&mut net, 0, "10.2.3.0/24", "203.0.113.66");
    net.reply(0, vec![record("10.2.0.0/16", &["203.0.113.9"])]);
    net.run_for(500 * MILLI);
    // The site has registered it again.
    solicit(&mut net, 1, "10.2.3.0/24", "203.0.113.66");
    net.reply(1, vec![record("10.2.3.0/24", &["203.0.113.67"])]);
    net.run_for(100 * MILLI);
    net.dark.clear();
    net.run_for(10 * SECOND);
    for id in 0..2 {
        assert_eq!(names(&net, id), ["10.2.0.0/16", "10.2.3.0/24"], "{id}");
        assert_eq!(net.nodes[id].paths(eid("10.2.3.9"))[0].0, ip("203.0.113.67"), "{id}");
    }
}
