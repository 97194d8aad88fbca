// The rings between the host and a resident kernel, which `resident.cuh`, behind this, runs: what both sides see, and how
// the kernel gets at it.
//
// Compiled by NVRTC behind `bus.cuh`, behind the text of a handler, which declares RtMessage, RtState, RtReply, RtPrivates,
// RtTable and rt_run, and behind a head that is made for each kernel and defines
//
//   RT_SHAPE                                 one of the three below
//   RT_MESSAGE_WORDS, RT_REPLY_WORDS, RT_STATE_WORDS   sizes in words, as the host has them
//   RT_SLOT_GRANULES, RT_RECORD_GRANULES     granules of a slot on the way in, and of a record on the way out
//   RT_WARPS                                 warps of a block, at most; one if the shape is serial
//   RT_BATCH                                 messages that are taken at once, at most, and no more than those have lanes
//   RT_MESSAGE_SPACE                         bytes of a message in shared memory
//   RT_INSTANCE_WORD                         the word of a message that names its instance
//   RT_HEARTBEAT                             where the heartbeat is, in words behind the stop word
//   RT_TABLES, RT_OUTPUTS                    how many there are
//   RT_OUTPUT_PLACES                         where the values of each are in RtPrivates: a list of RtOutput
//   RT_ROUTED                                1 if what it emits may go over a link on the device
//
// The host writes messages into a ring of slots and reads records from a ring with as many places: message `n` is in
// slot `n & mask`, its record in place `n & mask`. The host puts no message into a slot before it has taken the record
// that lies in the same place: so there always is room for a record, and nobody has to be told what has been read.
//
// Both rings consist of granules of 8 bytes, a word of data and a stamp, which is the lap of the ring, from 1. A granule
// is moved by one access of 8 bytes, which neither the memory model nor the bus tears, so that it is its own proof: a
// slot is complete when all its granules have the stamp of its lap, in whatever order they came. There is no index to
// publish, and no fence on a message's way, except where the handler has tables. A granule is only written again when
// the message it was for is over, which is known from the record, whose writing depends on what was read.
//
// Links. What other kernels of the device emit comes through a second ring of slots, in device memory, which has the same
// places, positions and stamps as the host's: a position is in one of the two, and the one that has its stamp is it. Who
// writes where, the host has laid down before the message begins that emits: it keeps room for all that may be emitted,
// so that no kernel ever waits for another one's. Item `i` of message `n` has the position `n * most + offset + i` of the
// ring at the link's end, whoever else is at work, and however often the message runs. What a message does not emit
// becomes a slot that is skipped, which a bit of its stamps says; it has a record, too.
//
// The slots of a kernel that may emit so have one more granule: the number of a route, or 0 if what the message emits goes
// through the host. The host keeps routes in a table of granules whose stamps are the route's number.

#define RT_STATELESS 0
#define RT_SERIAL 1
#define RT_INSTANCES 2

// What a record begins with: a fault's code, 1 or 2, or this.
#define RT_RECORD_DONE 4u
// … and this, of a slot that is skipped.
#define RT_RECORD_SKIPPED 5u
// What rt_run says of a message that the stop word ended: nothing of it counts, it has no record, and runs again.
#define RT_RUN_INTERRUPTED 3u

// Why the kernel came to its end.
#define RT_EXIT_STOPPED 1u
#define RT_EXIT_INTERRUPTED 2u
#define RT_EXIT_IDLE 3u
#define RT_EXIT_FAULT 4u

// The bit of a slot's stamp that says that there is nothing in it: laps are counted in those below.
#define RT_SKIPPED 0x80000000u

// Routes that are known at once, and granules of each.
#define RT_ROUTES 16u
#define RT_ROUTE_GRANULES 8u

// A message runs for as long as it runs; between two that were taken together the stop word is looked at this often.
#define RT_LOOK_NS 20000ull

struct RtLaunch {
  rt_u64* input;            // mapped: the host writes, this reads
  rt_u64* output;           // mapped: this writes, the host reads
  rt_u32* states;           // every instance's, one after the other
  const rt_u32* fallback;   // what replaces the state of an instance whose message faults; null: it stays
  const rt_u32* stop;       // mapped: 1 begins no message, 2 and more also leaves the one in hand; behind it the heartbeat
  rt_u32* leave;            // mapped: position (two words), reason, epoch: written once, the epoch last; and behind
                            // them the low word of the position before which all messages have been begun
  rt_u64 first;             // position of the first message
  rt_u64 again;             // messages before this position may have a record already: those are over
  rt_u64 idle_ns;           // with nothing to do for so long, it ends
  rt_u32 shift;             // places of the rings are 1 << shift
  rt_u32 epoch;             // tells this launch from those before it
  const rt_u64* linked;     // the other ring of slots, which kernels write; null: there is none
  const rt_u64* routes;     // mapped: the table of routes
  rt_u64 routed;            // what messages before this position emit goes through the host, whatever their slots say
  const rt_u32* bell;       // on the device: the ingress writes where the next message will be; null: nobody does
  RtTable tables[4];
};
static_assert(sizeof(RtTable) == 16, "a table is an address and a length");
static_assert(sizeof(RtLaunch) == 176, "the host writes it");

// A route, as it is in the table.
struct RtRoute {
  rt_u32 ring[2];    // the address of the ring at the link's end
  rt_u32 offset[2];  // see above
  rt_u32 next;       // the route of what comes of the values there
  rt_u32 shift;      // places of the ring are 1 << shift
  rt_u32 granules;   // of a slot there
  rt_u32 number;     // its own
};
static_assert(sizeof(RtRoute) == RT_ROUTE_GRANULES * 4, "a granule has a word of it");

struct RtOutput {
  rt_u32 count_offset, items_offset, stride, words, most;
};
#if RT_OUTPUTS > 0
static __constant__ const RtOutput rt_outputs[RT_OUTPUTS] = RT_OUTPUT_PLACES;
#endif

RT_FN rt_u32 rt_lap(const RtLaunch& launch, rt_u64 position) {
  return (rt_u32)(position >> launch.shift) + 1u;
}

RT_FN rt_u64 rt_place(const RtLaunch& launch, rt_u64 position) {
  return position & ((1ull << launch.shift) - 1ull);
}
