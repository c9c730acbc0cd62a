// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Activity} from "./Activity.sol";
import {Owners} from "./Owners.sol";
import {Terms, TermIsZero} from "./Terms.sol";
import {Tokens} from "./Tokens.sol";

/// @title Stakes
/// @notice What a peer stands to lose by saying two things at once, in a swarm that asks for it. A stake belongs to the
/// peer's owner (or to the peer without one), leaves only to them after the unbonding time, and is slashed only on proof.
abstract contract Stakes is Activity, Owners, Tokens {
    /// @notice The stake of a peer, and from when a stake that was asked back can leave; zero where it was not.
    struct Stake {
        address peer;
        uint64 withdrawableAt;
        uint256 amount;
    }

    /// @notice This swarm has no stakes.
    error NoStakes();

    /// @notice `sender` is not `holder`, who commands the stake of the peer.
    error NotStakeHolder(address sender, address holder);

    /// @notice Nothing is staked for the peer, or nothing can be slashed for this key any more.
    error NothingStaked(address peer);

    /// @notice The stake of the peer was asked back and can leave from `withdrawableAt` on.
    error Unbonding(address peer, uint64 withdrawableAt);

    /// @notice The stake of the peer was not asked back.
    error NotUnbonding(address peer);

    /// @notice `amount` was added to the stake of the peer.
    event Staked(address indexed peer, address indexed sender, uint256 amount);

    /// @notice The stake was asked back; the peer is not active any more.
    event UnstakeRequested(address indexed peer, uint64 withdrawableAt);

    /// @notice The stake went back to its holder.
    event StakeWithdrawn(address indexed peer, address indexed holder, uint256 amount);

    /// @notice The stake of the peer was destroyed on a proof against `signer`, its key or one that it replaced.
    event StakeSlashed(address indexed peer, address indexed signer, uint256 amount);

    /// @dev Where slashed stakes go: nobody has its key, and tokens refuse to send to zero.
    address private constant BURNED = 0x000000000000000000000000000000000000dEaD;

    address private immutable _stakeToken;
    uint256 private immutable _stakeAmount;
    uint32 private immutable _unbondingSeconds;

    /// @dev Under the first key of a peer; later ones point to it, so that no change of key shakes off an offence.
    mapping(address firstKey => Stake) private _stakes;
    mapping(address key => address firstKey) private _firstKey;

    constructor(Terms memory terms_) {
        _requireTokenTerms(terms_.stakeToken, terms_.stakeAmount);
        if (terms_.stakeToken != address(0) && terms_.unbondingSeconds == 0) revert TermIsZero("unbondingSeconds");
        _stakeToken = terms_.stakeToken;
        _stakeAmount = terms_.stakeAmount;
        _unbondingSeconds = terms_.unbondingSeconds;
    }

    /// @notice Adds `amount` of the sender's tokens to the stake of a peer, and makes them its holder's. The peer is
    /// active from its next sign of life on.
    function stake(address peer, uint256 amount) external whenNotPaused nonReentrant {
        if (_stakeToken == address(0)) revert NoStakes();
        _requireRegistered(peer);
        Stake storage stake_ = _stakeOf(peer);
        if (stake_.withdrawableAt != 0) revert Unbonding(peer, stake_.withdrawableAt);
        stake_.peer = peer;
        uint256 arrived = _pull(_stakeToken, amount);
        stake_.amount += arrived;
        emit Staked(peer, msg.sender, arrived);
    }

    /// @notice Asks the stake of a peer back, called by its holder. The peer is not active from now on.
    function requestUnstake(address peer) external {
        _requireRegistered(peer);
        if (msg.sender != _payeeOf(peer)) revert NotStakeHolder(msg.sender, _payeeOf(peer));
        Stake storage stake_ = _stakeOf(peer);
        if (stake_.amount == 0) revert NothingStaked(peer);
        if (stake_.withdrawableAt != 0) revert Unbonding(peer, stake_.withdrawableAt);
        stake_.withdrawableAt = uint64(block.timestamp) + _unbondingSeconds;
        _endActivity(peer);
        emit UnstakeRequested(peer, stake_.withdrawableAt);
    }

    /// @notice Sends a stake that was asked back to its holder, once the unbonding time is over. Anyone may call.
    function withdrawStake(address peer) external nonReentrant {
        _requireRegistered(peer);
        Stake memory stake_ = _stakeOf(peer);
        if (stake_.withdrawableAt == 0) revert NotUnbonding(peer);
        if (block.timestamp < stake_.withdrawableAt) revert Unbonding(peer, stake_.withdrawableAt);
        _clear(_stakeOf(peer));
        address holder = _payeeOf(peer);
        emit StakeWithdrawn(peer, holder, stake_.amount);
        _push(_stakeToken, holder, stake_.amount);
    }

    /// @notice The stake of a peer, under any of the keys that it has had.
    function stakeOf(address peer) external view returns (uint256 amount, uint64 withdrawableAt) {
        Stake storage stake_ = _stakeOf(peer);
        return (stake_.amount, stake_.withdrawableAt);
    }

    /// @dev The stake stays where it is, and the new key finds it.
    function _moveStake(address oldPeer, address newPeer) internal {
        if (_stakeToken == address(0)) return;
        Stake storage stake_ = _stakeOf(oldPeer);
        _firstKey[newPeer] = _firstKeyOf(oldPeer);
        stake_.peer = newPeer;
    }

    /// @dev Destroys the whole stake behind a key. A retired key counts for as long as a stake unbonds, so that a new
    /// key does not shake off what the old one did; a thief of the old key can do no more than before, and not for longer.
    function _slash(address signer) internal {
        Stake memory stake_ = _stakeOf(signer);
        uint64 retired = _peerOf[signer].retiredAt;
        if (stake_.amount == 0 || (retired != 0 && block.timestamp >= retired + _unbondingSeconds)) {
            revert NothingStaked(signer);
        }
        _clear(_stakeOf(signer));
        _endActivity(stake_.peer);
        emit StakeSlashed(stake_.peer, signer, stake_.amount);
        _push(_stakeToken, BURNED, stake_.amount);
    }

    function _isStaked(address peer) internal view override returns (bool) {
        if (_stakeToken == address(0)) return true;
        Stake storage stake_ = _stakeOf(peer);
        return stake_.amount >= _stakeAmount && stake_.withdrawableAt == 0;
    }

    /// @dev The terms that live here, for `terms()`.
    function _stakeTerms() internal view returns (address token, uint256 amount, uint32 unbondingSeconds) {
        return (_stakeToken, _stakeAmount, _unbondingSeconds);
    }

    function _clear(Stake storage stake_) private {
        stake_.amount = 0;
        stake_.withdrawableAt = 0;
    }

    function _stakeOf(address peer) private view returns (Stake storage) {
        return _stakes[_firstKeyOf(peer)];
    }

    function _firstKeyOf(address peer) private view returns (address) {
        address first = _firstKey[peer];
        return first == address(0) ? peer : first;
    }
}
