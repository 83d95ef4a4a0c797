//! Attempts as pods, on the cluster that `KUBECONFIG` names: a real API server, scheduler, kubelet.
//! Without `KUBECONFIG` each story says that it did not run.

mod chaos;
mod cut;
mod hostile;
mod main_job;
mod many;
mod memory;
mod orders;
mod restarts;
mod rights;
mod room;
mod steady;
