//! Configurations as people write them, and what is said of wrong ones.

use std::time::Duration;

use placement::{Plugin, Strategy};

use super::Settings;

const HEAD: &str = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";

fn read(text: &str) -> Settings {
    Settings::parse(&format!("{HEAD}{text}")).unwrap()
}

fn error(text: &str) -> String {
    Settings::parse(&format!("{HEAD}{text}"))
        .unwrap_err()
        .to_string()
}

#[test]
fn nothing_said_is_the_default() {
    let settings = read("");
    assert_eq!(settings.scheduler.profiles.len(), 1);
    let profile = &settings.scheduler.profiles[0];
    assert_eq!(profile.scheduler_name, "default-scheduler");
    assert_eq!(profile.rules, placement::Profile::default());
    assert!(profile.gates && profile.preempts && profile.gives_back_claims);
    assert!(settings.leader_election.elect);
    assert_eq!(settings.scheduler.max_backoff, Duration::from_secs(10));
    // The same, with everything upstream writes out.
    let spelled = read(
        "parallelism: 16\npercentageOfNodesToScore: 0\npodInitialBackoffSeconds: 1\npodMaxBackoffSeconds: 10\n\
         leaderElection: {leaderElect: true, leaseDuration: 15s, renewDeadline: 10s, retryPeriod: 2s, \
         resourceLock: leases, resourceName: kube-scheduler, resourceNamespace: kube-system}\n\
         clientConnection: {kubeconfig: /k, qps: 50, burst: 100, contentType: application/vnd.kubernetes.protobuf}\n\
         profiles:\n- schedulerName: default-scheduler\n  pluginConfig:\n  \
         - {name: DefaultPreemption, args: {kind: DefaultPreemptionArgs, minCandidateNodesPercentage: 10}}\n  \
         - {name: NodeResourcesFit, args: {scoringStrategy: {type: LeastAllocated, \
         resources: [{name: cpu, weight: 1}, {name: memory, weight: 1}]}}}\n",
    );
    assert_eq!(spelled.scheduler.profiles[0].rules, profile.rules);
    assert_eq!(spelled.leader_election, settings.leader_election);
    assert_eq!(spelled.kubeconfig, "/k");
}

#[test]
fn profiles_set_plugins_weights_and_arguments() {
    let settings = read(
        r"
podInitialBackoffSeconds: 2
podMaxBackoffSeconds: 4
profiles:
- schedulerName: packing
  plugins:
    multiPoint:
      enabled: [{name: TaintToleration, weight: 7}]
      disabled: [{name: ImageLocality}]
    filter:
      disabled: [{name: NodeName}]
    postFilter:
      disabled: [{name: '*'}]
    preScore:
      disabled: [{name: PodTopologySpread}]
    score:
      enabled: [{name: NodeResourcesFit, weight: 5}]
      disabled: [{name: PodTopologySpread}]
  pluginConfig:
  - name: NodeResourcesFit
    args:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: NodeResourcesFitArgs
      ignoredResources: [example.com/foo]
      ignoredResourceGroups: [example.org]
      scoringStrategy:
        type: RequestedToCapacityRatio
        resources: [{name: example.com/gpu, weight: 3}, {name: cpu}]
        requestedToCapacityRatio:
          shape: [{utilization: 0, score: 0}, {utilization: 100, score: 10}]
  - name: InterPodAffinity
    args: {hardPodAffinityWeight: 9}
  - name: PodTopologySpread
    args:
      defaultingType: List
      defaultConstraints: [{maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]
  - name: NodeAffinity
    args:
      addedAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms: [{matchExpressions: [{key: pool, operator: Exists}]}]
- schedulerName: plain
",
    );
    assert_eq!(settings.scheduler.initial_backoff, Duration::from_secs(2));
    let [packing, plain] = &settings.scheduler.profiles[..] else {
        panic!("two profiles")
    };
    assert_eq!(plain.rules, placement::Profile::default());
    assert!(!packing.preempts && !packing.gives_back_claims && packing.gates);
    let rules = &packing.rules;
    assert!(!rules.filters.contains(Plugin::NodeName));
    assert!(rules.filters.contains(Plugin::NodeResourcesFit));
    let weights = &rules.weights;
    let weights = [
        weights.taint,
        weights.affinity,
        weights.fit,
        weights.balanced,
        weights.image,
        weights.spread,
        weights.pods,
    ];
    assert_eq!(weights, [7, 2, 5, 1, 0, 0, 2]);
    assert_eq!(
        rules.strategy,
        Strategy::RequestedToCapacityRatio(vec![(0, 0), (100, 10)])
    );
    assert_eq!(
        rules.fit_resources,
        [("example.com/gpu".into(), 3), ("cpu".into(), 1)]
    );
    assert_eq!(rules.ignored_groups, ["example.org".into()]);
    assert_eq!(rules.hard_pod_affinity_weight, 9);
    let spread = &rules.spread_defaults;
    assert!(!spread.system && spread.constraints[0].hard);
    assert_eq!(spread.constraints[0].max_skew, 2);
    assert_eq!(rules.added_required.as_ref().unwrap().len(), 1);
}

#[test]
fn wrong_values_are_named_with_upstreams_texts() {
    for (text, expected) in [
        (
            "parallelism: 0",
            "parallelism: Invalid value: 0: should be an integer value greater than zero",
        ),
        (
            "percentageOfNodesToScore: 101",
            "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]",
        ),
        (
            "podInitialBackoffSeconds: 0",
            "podInitialBackoffSeconds: Invalid value: 0: must be greater than 0",
        ),
        (
            "podInitialBackoffSeconds: 20",
            "podMaxBackoffSeconds: Invalid value: 10: must be greater than or equal to PodInitialBackoffSeconds",
        ),
        (
            "leaderElection: {resourceLock: endpoints}",
            "leaderElection.resourceLock: Invalid value: \"endpoints\": resourceLock value must be \"leases\"",
        ),
        (
            "profiles: [{schedulerName: a}, {schedulerName: a}]",
            "profiles[1].schedulerName: Duplicate value: \"profiles[0].schedulerName\"",
        ),
        (
            "profiles: [{pluginConfig: [{name: InterPodAffinity, args: {hardPodAffinityWeight: 101}}]}]",
            "profiles[0].pluginConfig[0].args.hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]",
        ),
        (
            "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: Best}}}]}]",
            "profiles[0].pluginConfig[0].args.scoringStrategy.type: Unsupported value: \"Best\": supported values: \
             \"LeastAllocated\", \"MostAllocated\", \"RequestedToCapacityRatio\"",
        ),
        (
            "profiles: [{plugins: {score: {enabled: [{name: PrioritySort}]}}}]",
            "profiles[0].plugins.score: Invalid value: \"PrioritySort\": plugin \"PrioritySort\" does not extend \
             score plugin",
        ),
        (
            "profiles: [{plugins: {bind: {disabled: [{name: '*'}]}}}]",
            "profiles[0].plugins.bind: Invalid value: \"\": at least one bind plugin is needed for profile with \
             scheduler name \"default-scheduler\"",
        ),
        (
            "profiles: [{plugins: {multiPoint: {enabled: [{name: Coscheduling}]}}}]",
            "profiles[0].plugins.multiPoint.enabled[0].name: Invalid value: \"Coscheduling\": plugin does not \
             exist: only kube-scheduler's own plugins are there, those of others need their own scheduler",
        ),
        (
            "extenders: [{urlPrefix: http://x, prioritizeVerb: p}]",
            "extenders[0].weight: Invalid value: 0: must have a positive weight applied to it",
        ),
        (
            "extenders: [{bindVerb: b}, {bindVerb: b}]",
            "extenders: Invalid value: \"found 2 extenders implementing bind\": only one extender can implement bind",
        ),
        (
            "extenders: [{managedResources: [{name: cpu}]}]",
            "extenders[0].managedResources[0].name: Invalid value: \"cpu\": is an invalid extended resource name",
        ),
        (
            "extenders: [{managedResources: [{name: a.b/c}]}, {managedResources: [{name: a.b/c}]}]",
            "extenders[1].managedResources[0].name: Invalid value: \"a.b/c\": duplicate extender managed resource name",
        ),
        (
            "extenders: [{tlsConfig: {caData: '?'}}]",
            "extenders[0].tlsConfig.caData: Invalid value: \"?\": must be base64",
        ),
        (
            "percentage: 5\nprofiles: [{plugin: {}}]",
            "strict decoding error: unknown field \"profiles[0].plugin\", unknown field \"percentage\"",
        ),
        (
            "parallelism: many",
            "strict decoding error: parallelism: an integer of 32 bits is expected",
        ),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
    let message = error("profiles: [{plugins: {filter: {enabled: [{name: InterPodAffinity}]}}}]");
    assert!(
        message.contains("filters are asked in their default order here"),
        "{message}"
    );
    let message = error("profiles: [{plugins: {preFilter: {disabled: [{name: NodePorts}]}}}]");
    assert_eq!(
        message,
        "profiles[0].plugins.preFilter: Invalid value: \"NodePorts\": is disabled here but not in filter, which \
         needs it: disable both"
    );
}

#[test]
fn other_kinds_and_versions_are_refused() {
    for (text, expected) in [
        ("apiVersion: v1", "Object 'Kind' is missing"),
        ("- a", "the configuration is no object"),
        (
            "apiVersion: kubescheduler.config.k8s.io/v1beta3\nkind: KubeSchedulerConfiguration",
            "no kind \"KubeSchedulerConfiguration\" is registered for version \"kubescheduler.config.k8s.io/v1beta3\": \
             KubeSchedulerConfiguration of kubescheduler.config.k8s.io/v1 is read",
        ),
    ] {
        assert_eq!(Settings::parse(text).unwrap_err().to_string(), expected);
    }
    assert!(
        Settings::parse(": [")
            .unwrap_err()
            .to_string()
            .starts_with("the configuration is not YAML")
    );
}

#[test]
fn extenders_are_read_and_take_resources_out_of_the_fit() {
    let mut settings = read(
        "extenders:\n- urlPrefix: http://h:1/x\n  filterVerb: f\n  prioritizeVerb: p\n  weight: 3\n  preemptVerb: v\n  \
         bindVerb: b\n  enableHTTPS: true\n  httpTimeout: 200ms\n  nodeCacheCapable: true\n  ignorable: true\n  \
         tlsConfig: {serverName: name, caData: eA==}\n  \
         managedResources: [{name: a.b/c, ignoredByScheduler: true}, {name: a.b/d}]\n- {urlPrefix: ftp://h}\n",
    );
    let [first, second] = &settings.scheduler.extenders[..] else {
        panic!("two extenders")
    };
    assert_eq!(first.managed_resources, ["a.b/c", "a.b/d"]);
    assert_eq!(first.http_timeout, Duration::from_millis(200));
    assert_eq!(first.tls.tls.ca_pem, b"x");
    assert_eq!((first.weight, first.bind_verb.as_str()), (3, "b"));
    assert!(first.node_cache_capable && first.ignorable && first.enable_https);
    assert_eq!(second.http_timeout, Duration::from_secs(5));
    let rules = &settings.scheduler.profiles[0].rules;
    assert_eq!(rules.ignored_resources, ["a.b/c".into()]);
    assert_eq!(
        settings.load().unwrap_err().to_string(),
        "extenders[1]: \"ftp://h\": a URL of http or https is expected"
    );
}
