{{/*
All that the operator may do, each verb with its reason. Server-side apply is `patch`, and `create` when the object is
not there yet. Nothing here is for a ChatCluster's own pods: those may do nothing at all.
*/}}

{{/* In every namespace that it looks after. */}}
{{- define "chatcluster.rights" -}}
- apiGroups: [chatcluster.dev]
  resources: [chatclusters]
  verbs:
  - list    # which clusters there are to be, at the start and whenever a watch broke
  - watch   # what changes of them
- apiGroups: [chatcluster.dev]
  resources: [chatclusters/status]
  verbs:
  - patch   # how they are
- apiGroups: [""]
  resources: [pods]  # chat pods are made one by one; of API pods and others it looks at the state
  verbs:
  - list    # which there are
  - watch   # whether they are ready, stuck, or gone
  - create  # a chat pod; and, as a question only, whether the pod of the schema Job could be made
  - patch   # notes on a pod: that it drains, that it was seen to, that its live settings changed
  - delete  # a chat pod that was drained, or is lost
- apiGroups: [""]
  resources: [secrets]
  verbs:
  - list    # that they are there: only their metadata is asked for
  - watch   # that they have changed, likewise
  - get     # what is in those that a ChatCluster names, and in the two that were generated for it
  - create  # the generated signing keys, and the passwords of development stores
  - patch   # labels and owner of those two, and what belongs in them if one is empty; never what is in them
- apiGroups: [""]
  resources: [serviceaccounts, configmaps, services]
  verbs: &kept
  - get     # whether somebody else has the name of what is to be made
  - list    # what there is of a cluster
  - watch   # what somebody has changed, to put it back
  - create  # what is not there
  - patch   # what is not as it should be
  - delete  # what is not wanted any more
- apiGroups: [apps]
  resources: [deployments]  # API pods, workers, the probe, development stores
  verbs: *kept
- apiGroups: [apps]
  resources: [controllerrevisions]  # the template of each revision of chat pods, so that one can be gone back to
  verbs:
  - list    # which are kept
  - watch   # whether one is gone
  - create  # that of a spec which is new; it is never changed
  - delete  # one that no pod has, and nobody may go back to
- apiGroups: [batch]
  resources: [jobs]  # what makes the tables of the store
  verbs:
  - get     # whose it is that has its name
  - list    # whether there is one
  - watch   # how it ended
  - create  # another image, another store
  - delete  # one that has failed and is tried again, and those of before
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: *kept
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies, ingresses]
  verbs: *kept
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]  # where a ChatCluster names a Gateway
  verbs: *kept
- apiGroups: [monitoring.coreos.com]
  resources: [servicemonitors]  # where a ChatCluster asks for one
  verbs: *kept
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs:
  - create  # what it did, in words
{{- end -}}

{{/* Of the whole of Kubernetes; without it the operator does not see why a node's pods do not answer. */}}
{{- define "chatcluster.nodeRights" -}}
- apiGroups: [""]
  resources: [nodes]
  verbs:
  - list    # which are ready, cordoned, and in which zone
  - watch   # when that changes
{{- end -}}

{{/* In its own namespace: which of the operator's pods works. */}}
{{- define "chatcluster.leaseRights" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs:
  - create  # the first time; what is created cannot be limited by name
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [chatcluster-operator]
  verbs:
  - get     # who holds it
  - update  # to take it, to renew it, to let it go
{{- end -}}
