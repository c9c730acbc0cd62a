// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ACTIVE_EPOCHS, ActiveEpochs} from "./ActiveEpochs.sol";
import {PeerKeys} from "./PeerKeys.sol";

/// @title Activity
/// @notice Who has a say about an epoch: the peers that gave a sign of life in it or in the three epochs before, and hold
/// their stake where the swarm has one. Signs of life are registering, `checkIn`, and signing a settlement that gets
/// posted. A peer first active after an epoch neither counts nor may sign for it, so nobody can outvote the past. In a
/// swarm without stakes a key costs no more than its registration; whoever fears many keys in one hand asks for stakes.
abstract contract Activity is PeerKeys {
    /// @notice The peer has not the stake that this swarm asks for, or asked it back.
    error NotStaked(address peer);

    /// @notice The peer gave a sign of life and is active from `epoch` on, for four epochs.
    event PeerActive(address indexed peer, uint64 indexed epoch);

    /// @dev The first epoch that can still be settled: one after the last that was.
    uint64 internal _firstOpenEpoch;

    /// @dev Eight epochs to a slot, so that one sign of life writes one or two.
    mapping(uint64 octave => uint32[8]) private _activeCount;

    /// @notice Keeps the sender, a registered peer, active for this epoch and the next three.
    function checkIn() external {
        _requireRegistered(msg.sender);
        if (!_isStaked(msg.sender)) revert NotStaked(msg.sender);
        uint64 epoch = currentEpoch();
        _markActive(msg.sender, epoch);
        emit PeerActive(msg.sender, epoch);
    }

    /// @notice Whether the peer is active for `epoch`: registered, staked, and alive then. Only the 64 epochs up to the
    /// peer's last active one are remembered.
    function isActive(address peer, uint64 epoch) public view returns (bool) {
        return isRegistered(peer) && _peerOf[peer].active.covers(epoch) && _isStaked(peer);
    }

    /// @notice How many peers are active for `epoch`. Fixed once the epoch is settled.
    function activeCount(uint64 epoch) public view returns (uint256) {
        return _activeCount[epoch >> 3][epoch & 7];
    }

    /// @notice The first epoch that can still be settled.
    function firstOpenEpoch() external view returns (uint64) {
        return _firstOpenEpoch;
    }

    /// @dev Without its stake a peer is not active, and its sign of life is nothing.
    function _markActive(address peer, uint64 epoch) internal override {
        if (!_isStaked(peer)) return;
        ActiveEpochs before = _peerOf[peer].active;
        _peerOf[peer].active = before.covered(epoch);
        for (uint64 next = epoch; next < epoch + ACTIVE_EPOCHS; ++next) {
            if (!before.covers(next)) ++_activeCount[next >> 3][next & 7];
        }
    }

    /// @dev Ends the activity of a peer for every epoch that is not settled yet.
    function _endActivity(address peer) internal {
        ActiveEpochs before = _peerOf[peer].active;
        _peerOf[peer].active = before.cutFrom(_firstOpenEpoch);
        (uint64 first, uint64 end) = before.window();
        if (first < _firstOpenEpoch) first = _firstOpenEpoch;
        for (uint64 epoch = first; epoch < end; ++epoch) {
            if (before.covers(epoch)) --_activeCount[epoch >> 3][epoch & 7];
        }
    }

    /// @dev Whether the peer holds the stake that the swarm asks for, and has not asked it back.
    function _isStaked(address peer) internal view virtual returns (bool);
}
