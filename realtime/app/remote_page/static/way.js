// What a moment's exchanges say of a connection, and what it bears.

// An exchange is late where it takes so many seconds, and such a share of the quickest one's, more than that: a packet that was lost
// is sent again a round trip later, and those after it wait for it. From so many such times on packets are lost (a busy device is late, too,
// but seldom so often), and from such a share of late ones a connection is unsteady.
const [LATE, LATE_SHARE, LOSES, UNSTEADY] = [0.02, 0.8, 3, 0.3];

// `trips`, in seconds, one after the other, of those of `asked` exchanges that have come back.
export function judgedWay(trips, asked) {
  const quickest = Math.min(...trips);
  const late = trips.map((one) => one > quickest + Math.max(LATE, LATE_SHARE * quickest));
  const missing = Math.max(asked - trips.length, 0);
  const times = late.filter((one, at) => one && !late[at - 1]).length + (missing ? 1 : 0);
  const share = (late.filter(Boolean).length + missing) / asked;
  return { trip: quickest, late: share, loses: times >= LOSES, unsteady: share >= UNSTEADY };
}

// Whether a codec is in time where packets are lost: JPEGs take too many of them, and VP8 too long besides.
export const bearsLoss = (codec) => codec === "h264";
