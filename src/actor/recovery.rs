//! After a fault or the loss of a device: whether a kernel goes on, and with what.

use super::core::{Core, Engine, Place};
use super::driver::RoundEnd;
use super::gate;
use super::lifecycle::KernelState;
use crate::backend::Fault;
use crate::error::{Error, ErrorKind};
use crate::kernel::{Credits, RestartPolicy, RestartState};
use crate::message::Message;
use crate::sync::{Ordering, lock};
use std::sync::Arc;
use std::time::Instant;

/// A kernel whose device is lost tries so many devices before it fails.
pub(super) const REVIVALS: usize = 5;

impl<In: Message, Out: Message> Core<In, Out> {
    /// The port's device is gone: hands out what had come back, and goes on with another device if the kernel's policy
    /// says so; if not, the kernel has failed. The gate is held. To open a device may take a minute: a caller, who has a
    /// deadline, leaves that to the background driver.
    pub(super) fn lose(self: &Arc<Self>, engine: &mut Engine<Out>, is_caller: bool) -> RoundEnd {
        self.hand_out(engine);
        {
            let mut mailbox = lock(&self.mailbox);
            // What is not here yet comes through the host: the old port takes nothing more.
            mailbox.awaited = 0;
            // By a fault in what had come back.
            if mailbox.state == KernelState::Failed {
                return RoundEnd::Stopped;
            }
        }
        let cause = engine.port.as_ref().and_then(|port| port.failure());
        let cause = cause.unwrap_or_else(|| Error::new(ErrorKind::DeviceLost, "the device is lost"));
        let RestartPolicy::OneForOne { state, .. } = self.facts.restart else {
            self.fail(&cause);
            return RoundEnd::Stopped;
        };
        if state == RestartState::Current {
            let text =
                format!("{cause}; the present state, with which the kernel would restart, is lost with it");
            self.fail(&Error::new(ErrorKind::DeviceLost, text));
            return RoundEnd::Stopped;
        }
        if is_caller {
            // Nothing comes back, and no room helps. On release the background driver is told.
            self.hot.gate.clear(gate::AWAY | gate::STALLED);
            self.hot.gate.set(gate::BACKGROUND | gate::QUEUED);
            return RoundEnd::Stopped;
        }
        // Counted as a restart; too many of them fail the kernel.
        if !self.supervise(&cause) {
            return RoundEnd::Stopped;
        }
        let Some(relaunch) = &self.facts.relaunch else { return RoundEnd::Stopped };
        let revive = || {
            let mut port = relaunch(engine.memory.fallback(state))?;
            engine.memory.arrange_restart(port.as_mut(), self.facts.restart)?;
            Ok::<_, Error>(port)
        };
        // A device may be lost without anybody having noticed, until it is used, and the next one may be lost too.
        let mut revived = revive();
        for _ in 1..REVIVALS {
            if !matches!(&revived, Err(error) if error.is_device_lost()) {
                break;
            }
            revived = revive();
        }
        match revived {
            Ok(port) => {
                let inlet = port.inlet();
                *lock(&self.place) = Place::of(Some(&*port));
                engine.port = Some(port);
                // What the old device had, and never confirmed, is queued again, first in line.
                engine.reply_places = 0;
                let mut mailbox = lock(&self.mailbox);
                // The new port has nothing.
                self.control.set_waiting(0);
                let again = mailbox.requeue();
                // Whoever terminated the kernel meanwhile has left the port to whoever holds it.
                mailbox.inlet = inlet.filter(|_| self.hot.gate.load() & gate::ABANDONED == 0);
                if let Some(cycle) = &mailbox.cycle {
                    cycle.release((again * mailbox.growth) as i64);
                }
                drop(mailbox);
                if !self.facts.background_only {
                    self.hot.gate.clear(gate::BACKGROUND);
                }
                self.hot.gate.set(gate::QUEUED);
                // There is room again where something was awaited.
                self.resume_upstream();
                RoundEnd::Moved
            }
            Err(error) => {
                let text = format!("{cause}; and there is no other: {error}");
                self.fail(&Error::new(ErrorKind::DeviceLost, text));
                RoundEnd::Stopped
            }
        }
    }

    pub(super) fn fault_error(&self, fault: &Fault) -> Error {
        Error::new(ErrorKind::Failed, format!("kernel `{}`: {fault}", self.name()))
    }

    /// Decides what becomes of the kernel after a fault: it goes on under its policy, or it fails.
    pub(super) fn supervise(self: &Arc<Self>, cause: &Error) -> bool {
        let allowed = match self.facts.restart {
            RestartPolicy::Never => false,
            RestartPolicy::OneForOne { max: u32::MAX, .. } => true,
            RestartPolicy::OneForOne { max, within, .. } => {
                let now = Instant::now();
                let mut mailbox = lock(&self.mailbox);
                let restarted = &mut mailbox.restarted;
                while restarted.front().is_some_and(|then| now.duration_since(*then) > within) {
                    restarted.pop_front();
                }
                restarted.push_back(now);
                restarted.len() <= max as usize
            }
        };
        if allowed {
            self.counts.restarts.fetch_add(1, Ordering::Relaxed);
        } else {
            self.fail(cause);
        }
        allowed
    }
}
