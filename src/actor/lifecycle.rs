//! The states of a kernel and the one function that says which may follow which.

use crate::error::{Error, ErrorKind, Result};
use std::fmt;

/// Where a kernel is in its life.
///
/// `Created → Launched → Active ⇄ Deactivated → Terminating → Terminated`. A kernel that is launched, active or
/// deactivated may become `Failed`; from each state before the last two it can be terminated, and a failed one can do
/// nothing else.
///
/// # Example
///
/// ```
/// use ringwork::{KernelState, RingKernel, Runtime, message};
///
/// message! { pub struct Tick { pub count: u32 } }
///
/// let runtime = Runtime::new()?;
/// let clock = runtime.launch(RingKernel::<Tick, ()>::wgsl("clock", "fn on_message(m: Tick) {}"))?;
/// assert_eq!(clock.lifecycle(), KernelState::Launched);
/// clock.activate()?;
/// assert!(clock.activate().is_err_and(|error| error.is_illegal_state()));
/// # Ok::<(), ringwork::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KernelState {
    /// Declared; being made ready.
    Created,
    /// Ready; its queues exist, nothing is accepted yet.
    Launched,
    /// Accepts and handles messages.
    Active,
    /// Accepts and handles nothing; what is queued stays.
    Deactivated,
    /// Handles what it still can, accepts nothing.
    Terminating,
    /// Gone; its name is free.
    Terminated,
    /// A fault that its restart policy does not cover ended it.
    Failed,
}

impl fmt::Display for KernelState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What can move a kernel from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Launch,
    Activate,
    Deactivate,
    Terminate,
    Finish,
    Fail,
}

impl KernelState {
    /// The state after an event.
    ///
    /// # Errors
    ///
    /// An illegal transition, naming kernel, call and both states.
    pub(crate) fn after(self, event: Event, kernel: &str) -> Result<Self> {
        use KernelState::*;
        Ok(match (self, event) {
            (Created, Event::Launch) => Launched,
            (Launched | Deactivated, Event::Activate) => Active,
            (Active, Event::Deactivate) => Deactivated,
            (Created | Launched | Active | Deactivated | Failed, Event::Terminate) => Terminating,
            (Terminating, Event::Finish) => Terminated,
            (Active | Deactivated | Launched, Event::Fail) => Failed,
            _ => {
                let (call, target) = match event {
                    Event::Launch => ("launch", Launched),
                    Event::Activate => ("activate", Active),
                    Event::Deactivate => ("deactivate", Deactivated),
                    Event::Terminate => ("terminate", Terminating),
                    Event::Finish => ("finish", Terminated),
                    Event::Fail => ("fail", Failed),
                };
                return Err(Error::new(
                    ErrorKind::State,
                    format!(
                        "cannot {call} kernel `{kernel}`: it is {self}, from which it cannot become {target}"
                    ),
                ));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use KernelState::*;

    const STATES: [KernelState; 7] =
        [Created, Launched, Active, Deactivated, Terminating, Terminated, Failed];

    #[test]
    fn every_pair_of_state_and_event_is_decided_as_documented() {
        let legal = [
            (Created, Event::Launch, Launched),
            (Launched, Event::Activate, Active),
            (Deactivated, Event::Activate, Active),
            (Active, Event::Deactivate, Deactivated),
            (Created, Event::Terminate, Terminating),
            (Launched, Event::Terminate, Terminating),
            (Active, Event::Terminate, Terminating),
            (Deactivated, Event::Terminate, Terminating),
            (Failed, Event::Terminate, Terminating),
            (Terminating, Event::Finish, Terminated),
            (Launched, Event::Fail, Failed),
            (Active, Event::Fail, Failed),
            (Deactivated, Event::Fail, Failed),
        ];
        let events =
            [Event::Launch, Event::Activate, Event::Deactivate, Event::Terminate, Event::Finish, Event::Fail];
        for state in STATES {
            for event in events {
                let expected = legal.iter().find(|(s, e, _)| (*s, *e) == (state, event));
                match (state.after(event, "k"), expected) {
                    (Ok(next), Some((.., wanted))) => assert_eq!(next, *wanted),
                    (Err(error), None) => {
                        assert!(error.is_illegal_state());
                        assert!(error.to_string().contains(&format!("it is {state}, ")), "{error}");
                    }
                    (result, _) => panic!("{state:?} and {event:?} gave {result:?}"),
                }
            }
        }
    }

    #[test]
    fn an_illegal_transition_names_kernel_call_and_both_states() {
        let error = Active.after(Event::Activate, "sum").unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot activate kernel `sum`: it is Active, from which it cannot become Active"
        );
    }
}
