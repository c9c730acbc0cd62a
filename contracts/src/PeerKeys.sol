// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {BitMaps} from "@openzeppelin/contracts/utils/structs/BitMaps.sol";

import {ActiveEpochs} from "./ActiveEpochs.sol";
import {Consent} from "./Consent.sol";
import {Control} from "./Control.sol";
import {Epochs} from "./Epochs.sol";
import {Secp256k1} from "./Secp256k1.sol";

/// @title PeerKeys
/// @notice The peers of the swarm. A peer is a secp256k1 key: its libp2p identity and its account here at once. The
/// libp2p peer id is base58(0x002508021221 || prefix || x). A key gets in only by proving that it is held: it sends the
/// transaction, or it signs for one that somebody else pays.
abstract contract PeerKeys is Control, Consent, Epochs {
    using BitMaps for BitMaps.BitMap;

    /// @notice A registered public key in compressed form: the byte `prefix` (2 or 3) followed by `x`.
    struct PeerKey {
        bytes32 x;
        uint8 prefix;
    }

    /// @dev One storage slot.
    struct Peer {
        /// @dev One more than the position among the keys; zero where the account is not registered.
        uint64 place;
        /// @dev When the key was replaced by another one, in unix seconds; zero where it was not.
        uint64 retiredAt;
        ActiveEpochs active;
    }

    /// @notice The transaction was sent by `sender` and not by `account`, the account of the key.
    error SenderIsNotKey(address sender, address account);

    /// @notice The key of `account` is registered already.
    error AlreadyRegistered(address account);

    /// @notice The key of `account` was replaced by another one and cannot come back.
    error KeyRetired(address account);

    /// @notice The key of `account` is not registered.
    error NotRegistered(address account);

    /// @notice The key (x, y) proved that it is `account` and is a peer of this swarm from now on.
    event PeerRegistered(address indexed account, bytes32 x, bytes32 y);

    bytes32 private constant REGISTRATION_TYPE =
        keccak256("Registration(bytes32 x,bytes32 y,uint256 nonce,uint256 deadline)");

    /// @dev The largest page, so that no reader can be made to run out of gas.
    uint256 internal constant MAX_PAGE = 256;

    mapping(address account => Peer) internal _peerOf;

    /// @dev The x coordinates in the order of registration, and whether y is odd.
    bytes32[] private _xs;
    BitMaps.BitMap private _odd;

    /// @notice Registers the sender as a peer. The transaction's own signature proves possession of the key.
    /// @param x The x coordinate of the sender's public key.
    /// @param y The y coordinate of the sender's public key.
    function register(bytes32 x, bytes32 y) external whenNotPaused {
        address account = Secp256k1.accountOf(x, y);
        if (account != msg.sender) revert SenderIsNotKey(msg.sender, account);
        _register(account, x, y);
    }

    /// @notice Registers the key (x, y) as a peer; the sender pays, and gets nothing for it.
    /// @param signature By the key, over Registration(bytes32 x,bytes32 y,uint256 nonce,uint256 deadline).
    function registerFor(bytes32 x, bytes32 y, uint256 deadline, bytes calldata signature) external whenNotPaused {
        address account = Secp256k1.accountOf(x, y);
        bytes32 structHash = keccak256(abi.encode(REGISTRATION_TYPE, x, y, _useNonce(account), deadline));
        _requireKeySignature(account, structHash, deadline, signature);
        _register(account, x, y);
    }

    /// @notice Whether the key of `account` is registered, and was not replaced by another one.
    function isRegistered(address account) public view returns (bool) {
        return _peerOf[account].place != 0;
    }

    /// @notice When the key of `account` was replaced by another one, in unix seconds; zero where it was not.
    function retiredAt(address account) external view returns (uint64) {
        return _peerOf[account].retiredAt;
    }

    /// @notice How many peers are registered.
    function peerCount() external view returns (uint256) {
        return _xs.length;
    }

    /// @notice A page of the registered keys, in the order of registration. A key that replaced another one has its
    /// place, so nothing moves between two pages.
    /// @param offset The number of peers to skip. Past the end the page is empty.
    /// @param limit The most keys to return. A page never has more than 256.
    function peers(uint256 offset, uint256 limit) external view returns (PeerKey[] memory page) {
        limit = _pageLength(_xs.length, offset, limit);
        page = new PeerKey[](limit);
        for (uint256 i = 0; i < limit; ++i) {
            page[i] = PeerKey(_xs[offset + i], Secp256k1.prefixOf(_odd.get(offset + i)));
        }
    }

    /// @dev Puts a proven key in the place of another one, which is retired for good.
    function _replaceKey(address oldPeer, address newPeer, bytes32 x, bytes32 y) internal {
        _requireNew(newPeer);
        Peer storage old = _peerOf[oldPeer];
        uint64 place = old.place;
        _peerOf[newPeer] = Peer(place, 0, old.active);
        _peerOf[oldPeer] = Peer(0, uint64(block.timestamp), ActiveEpochs.wrap(0));
        _xs[place - 1] = x;
        _odd.setTo(place - 1, Secp256k1.isOdd(y));
        emit PeerRegistered(newPeer, x, y);
    }

    function _requireRegistered(address account) internal view {
        if (!isRegistered(account)) revert NotRegistered(account);
    }

    /// @dev Called when a peer gives a sign of life in an epoch.
    function _markActive(address peer, uint64 epoch) internal virtual;

    /// @dev How many of `count` entries a page has.
    function _pageLength(uint256 count, uint256 offset, uint256 limit) internal pure returns (uint256) {
        uint256 left = offset < count ? count - offset : 0;
        if (limit > MAX_PAGE) limit = MAX_PAGE;
        return limit < left ? limit : left;
    }

    function _register(address account, bytes32 x, bytes32 y) private {
        _requireNew(account);
        if (Secp256k1.isOdd(y)) _odd.set(_xs.length);
        _xs.push(x);
        _peerOf[account].place = uint64(_xs.length);
        _markActive(account, currentEpoch());
        emit PeerRegistered(account, x, y);
    }

    function _requireNew(address account) private view {
        Peer storage peer = _peerOf[account];
        if (peer.place != 0) revert AlreadyRegistered(account);
        if (peer.retiredAt != 0) revert KeyRetired(account);
    }
}
