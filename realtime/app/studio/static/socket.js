// A websocket that comes back by itself.
export function connect(path, token, { message, opened = () => {}, lost = () => {} }) {
  let socket = null;
  let wait = 250;
  const open = () => {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    socket = new WebSocket(`${scheme}://${location.host}${path}`, ["livepuppet", `token.${token}`]);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      wait = 250;
      opened();
    };
    socket.onmessage = (event) => message(event.data);
    socket.onclose = () => {
      lost();
      setTimeout(open, wait);
      wait = Math.min(2 * wait, 4000);
    };
  };
  open();
  // What is said while it is away is lost: say what must not be in `opened`.
  return (value) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(value));
  };
}
