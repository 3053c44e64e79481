"""The messages between a page (client) and the machine that reads its camera and renders (server), over one websocket.

Text messages are JSON objects, binary ones begin with a letter; numbers are little-endian.

To the server:
    {"version", "session", "codecs"}    hello; the codecs that the page decodes, best first; with "echo", the camera's own picture
                                        comes back, which measures the way alone
    {"show": id}                        move this picture: `offered N`, or the SHA-256 of one that the page has
    {"settings"}, {"mirror"}            how the motion is shown (`PAGE_SETTINGS`)
    {"do": "neutral" or "find"}         take the neutral pose anew; look for the face anew
    {"neutral"}                         begin with this neutral pose, as the server told it
    {"key": true}                       send a key picture
    V                                   the camera's picture (`CAMERA`)
    A                                   a picture to move: PNG or JPEG
    K, T                                as in `remote.protocol`, K on a single connection
To the page:
    {"welcome", "codecs", "offered", "words", "resumed"}    hello is accepted; codecs that the camera may come in; pictures that
                                        are here; what recordings say; whether this session was here before
    {"need": id}, {"ready": id, "rig"}  send this picture; it is shown, and whether by a rig
    {"state"}, {"said"}, {"neutral"}    what the driver does; sentences for the person; the neutral pose, for a server that restarts
    {"key": true}                       send a key picture of the camera
    {"error"}                           a sentence; the connection ends
    R                                   a picture of the camera has arrived (`RECEIPT`), on a single connection
    P                                   a picture (`PICTURE`)
    T                                   as in `remote.protocol`
"""

from __future__ import annotations

import struct

#: Of the protocol; the page is this server's own, so it can only be an old one that was left open.
PAGE_VERSION = 1

#: Of the websocket.
PAGE_PATH = "/camera"

#: Before a picture of the camera: kind, its number (one more for each), codec, 1 for a key picture, and when the camera took it, in
#: seconds of the page's clock.
CAMERA = struct.Struct("<cIBBd")

#: Kind, and number of the camera's picture.
RECEIPT = struct.Struct("<cI")

#: Before a picture: kind, its number (one more for each), the number of the camera's picture, codec, 1 for a key picture, when
#: that was taken (as told), when it was received in seconds of the server's clock, and the seconds that it then waited, that
#: reading and rendering took, and encoding.
PICTURE = struct.Struct("<cIIBBddfff")

#: Bytes of one picture of the camera, and of one that is to be moved.
LARGEST_CAMERA, LARGEST_PICTURE = 1 << 20, 16 << 20
